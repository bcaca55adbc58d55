"""Floating-point operations per token, by modality. A multiply-add counts as two; norms, biases, softmax and activations are
left out.

forward, decoder     2 · (active weights of attention, feed-forwards, router, experts and shared experts)
                     + layers · 2 · (q + o) · S   scores and weighted values against all S = sequence_length keys of the row,
                                                  as a dense mask computes them, masked or not (q, o: channels of queries and
                                                  of attention's output over all heads)
                     + layers · 6 · s             those with linear attention: decay, write and read a state of s values
forward, entrances   text: 2 · V · d for the output head;
                     vit:  the encoder's weights and its attention over the patches of one image, the class token's work
                           shared out over the patches, and the projector;
                     vae:  both projections of the latent interface, and its timestep MLP shared out over the image's tokens
training             3 · forward: the backward pass costs two forwards (gradients of inputs and of weights); with activation
                     checkpointing one more forward of the decoder. Frozen roles save up to a third of their part; not deducted.
"""

from __future__ import annotations

from collections.abc import Iterable

from smoe_cli.families import Backbone
from smoe_cli.plan.attention import attention_of
from smoe_cli.plan.tensors import TIME_FEATURES, latent_dim, vae_tokens
from smoe_cli.plan.types import Active, Flops, Tensor
from smoe_cli.plan.vision import Sight
from smoe_cli.recipe.models import Latents, Recipe

DECODER_WEIGHTS = ("attention", "dense", "router", "experts", "shared")


def flops(
    recipe: Recipe, backbone: Backbone, sight: Sight | None, tensors: Iterable[Tensor], active: Active, modality: str
) -> Flops:
    """Operations for one token of `modality` in a row of `data.sequence_length` tokens, with `active` as its parameters.

    tensors: of the built model.
    """
    d, attention = backbone.hidden_size, attention_of(backbone)
    counted = {role for role in active.roles if role.split(".")[0] in DECODER_WEIGHTS}
    vectors = sum(tensor.numel for tensor in tensors if tensor.role in counted and len(tensor.shape) < 2)  # biases
    weights = sum(active.roles[role] for role in counted) - vectors
    scores = attention.full * 2 * (attention.queries + attention.outputs) * recipe.data.sequence_length
    decoder = 2 * weights + scores + attention.linear * 6 * attention.linear_state
    door = 0
    if modality == "text":
        door = 2 * backbone.vocab_size * d
    elif modality == "vit" and sight:
        door = _vision(sight)
    elif modality == "vae" and recipe.model.latents:
        door = _latents(recipe.model.latents, d)
    forward = decoder + door
    recomputed = decoder if recipe.training.activation_checkpointing else 0
    return Flops(forward, 3 * forward + recomputed)


def _vision(sight: Sight) -> int:
    positions = sight.patches + sight.class_tokens
    attention = sight.layers * 4 * sight.hidden_size * positions
    encoder = positions * (2 * sight.layer_weights + attention) + sight.patches * 2 * sight.stem
    return encoder // sight.tokens + 2 * sight.projected


def _latents(latents: Latents, d: int) -> int:
    time = 2 * (TIME_FEATURES * d + d * d)
    return 2 * 2 * d * latent_dim(latents) + time // vae_tokens(latents)

"""Floating-point operations per token, by modality. A multiply-add counts as two; norms, softmax and activations are left out.

forward, decoder     2 · (active weights of attention, router, experts and shared experts)
                     + layers · 4 · q · S      scores and weighted values against all S = sequence_length keys of the row,
                                               as a dense mask computes them, masked or not (q = heads · head_dim)
forward, entrances   text: 2 · V · d for the output head;
                     vit:  the encoder's weights and its attention over the patches of one image, the class token's work
                           shared out over the patches, and the projector;
                     vae:  both projections of the latent interface, and its timestep MLP shared out over the image's tokens
training             3 · forward: the backward pass costs two forwards (gradients of inputs and of weights); with activation
                     checkpointing one more forward of the decoder. Frozen roles save up to a third of their part; not deducted.
"""

from __future__ import annotations

import math

from smoe_cli.plan.tensors import TIME_FEATURES, latent_dim, vae_tokens, vit_tokens
from smoe_cli.plan.types import Active, Flops
from smoe_cli.plan.vision import IMAGE_CHANNELS, class_tokens, vision_tensors
from smoe_cli.recipe.models import Latents, Recipe, Vision

DECODER_WEIGHTS = ("attention", "router", "experts", "shared")


def flops(recipe: Recipe, active: Active, modality: str, vocab_size: int) -> Flops:
    """Operations for one token of `modality` in a row of `data.sequence_length` tokens, with `active` as its parameters."""
    scratch = recipe.model.backbone.scratch
    d = scratch.hidden_size
    q = scratch.num_attention_heads * (d // scratch.num_attention_heads)
    weights = sum(n for role, n in active.roles.items() if role.split(".")[0] in DECODER_WEIGHTS)
    decoder = 2 * weights + scratch.num_hidden_layers * 4 * q * recipe.data.sequence_length
    door = 0
    if modality == "text":
        door = 2 * vocab_size * d
    elif modality == "vit" and recipe.model.vision:
        door = _vision(recipe.model.vision, d)
    elif modality == "vae" and recipe.model.latents:
        door = _latents(recipe.model.latents, d)
    forward = decoder + door
    recomputed = decoder if recipe.training.activation_checkpointing else 0
    return Flops(forward, 3 * forward + recomputed)


def _vision(vision: Vision, d: int) -> int:
    patches = vit_tokens(vision)
    tokens = patches + class_tokens(vision)
    h = vision.hidden_size
    layers = sum(math.prod(shape) for name, shape in vision_tensors(vision) if ".layers." in f".{name}" and len(shape) == 2)
    stem = h * IMAGE_CHANNELS * math.prod(vision.patch_size)  # the patch convolution: one matrix product for each patch
    attention = vision.num_hidden_layers * 4 * h * tokens
    projector = d * h + (d * d if vision.projector == "mlp" else 0)
    return (tokens * (2 * layers + attention)) // patches + 2 * (stem + projector)


def _latents(latents: Latents, d: int) -> int:
    time = 2 * (TIME_FEATURES * d + d * d)
    return 2 * 2 * d * latent_dim(latents) + time // vae_tokens(latents)

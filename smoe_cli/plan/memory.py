"""Bytes on one device while a phase trains, every process holding the whole model (data parallel).

weights      4 B a parameter: float32, also under bf16
autocast     bf16 only: 2 B for each value of the matrices that autocast casts (all but the embedding table, which is looked up)
gradients    4 B for each parameter of a trainable role
optimizer    AdamW's two moments, 8 B for each parameter trained in this phase or an earlier one: freezing keeps the moments
ema          4 B a parameter when `training.ema` is set: averages are kept of the whole model
activations  an estimate of what the backward pass needs of one micro-batch. 4 B a value, also under bf16: autocast leaves the
             residual stream, norms and expert inputs in float32 (measured: 3.3 to 3.9 B). Values for each token and decoder
             layer: both norms' inputs and outputs (4d); queries and keys before and after rotation, values and attention's
             output (3q + 3kv); for each of k experts a gathered input, gate, up, SiLU, their product and the output
             (k(2d + 4f)); the same of the shared experts (4s + d). With activation checkpointing: d of each layer, and all
             of one. `eager` attention keeps scores and probabilities too (2 · heads · S). Logits: 8 B for each word of the
             vocabulary and each token, as if all were text. A trained vision encoder: its layers' activations, as if every
             token were `vit`. Temporary buffers and the allocator's slack are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from smoe_cli.plan.tensors import vit_tokens
from smoe_cli.plan.types import Memory, Tensor
from smoe_cli.plan.vision import class_tokens
from smoe_cli.recipe.models import Phase, Recipe, Vision

LOOKED_UP = ("backbone.model.embed_tokens.weight",)


def memory(
    recipe: Recipe,
    phase: Phase,
    tensors: Iterable[Tensor],
    trainable: set[str],
    trained: set[str],
    vocab_size: int,
    processes: int,
) -> Memory:
    """Memory of one process of `processes` in `phase`.

    trainable: roles trained in this phase; trained: roles trained in this phase or an earlier one.
    """
    total = cast = learning = moving = 0
    for tensor in tensors:
        total += tensor.numel
        cast += tensor.numel if len(tensor.shape) > 1 and tensor.name not in LOOKED_UP else 0
        learning += tensor.numel if tensor.role in trainable else 0
        moving += tensor.numel if tensor.role in trained else 0
    return Memory(
        weights=4 * total,
        autocast=2 * cast if recipe.training.precision == "bf16" else 0,
        gradients=4 * learning,
        optimizer=8 * moving,
        ema=4 * total if recipe.training.ema else 0,
        activations=_activations(recipe, phase, trainable, vocab_size, processes),
    )


def _activations(recipe: Recipe, phase: Phase, trainable: set[str], vocab_size: int, processes: int) -> int:
    length = recipe.data.sequence_length
    tokens = length * -(-phase.tokens_per_step // (length * phase.accumulate * processes))  # the fullest process: whole rows
    layers = recipe.model.backbone.scratch.num_hidden_layers
    layer = _decoder_layer(recipe)
    if recipe.training.activation_checkpointing:
        decoder = layers * recipe.model.backbone.scratch.hidden_size + layer
    else:
        decoder = layers * layer
    images = 0
    vision = recipe.model.vision
    if vision and "vision" in trainable and any(recipe.data.sources[name].task == "mmu" for name in phase.mixture):
        images = tokens * _vision_token(vision, recipe.training.attention)
    return tokens * (4 * decoder + 8 * vocab_size) + 4 * images


def _decoder_layer(recipe: Recipe) -> int:
    """Values kept for one token in one decoder layer."""
    s, shared = recipe.model.backbone.scratch, recipe.model.shared
    d, f, k = s.hidden_size, s.moe_intermediate_size, s.num_experts_per_tok
    head_dim = d // s.num_attention_heads
    q, kv = s.num_attention_heads * head_dim, s.num_key_value_heads * head_dim
    scores = 2 * s.num_attention_heads * recipe.data.sequence_length if recipe.training.attention == "eager" else 0
    inner = shared.count * shared.intermediate_size
    return 4 * d + 3 * q + 3 * kv + scores + k * (2 * d + 4 * f) + 4 * inner + d


def _vision_token(vision: Vision, attention: str) -> int:
    """Values kept for one `vit` token in the vision encoder: norms, q, k, v, output; the feed-forward before and after GELU."""
    patches = vit_tokens(vision)
    tokens = patches + class_tokens(vision)
    scores = 2 * vision.num_attention_heads * tokens if attention == "eager" else 0
    layer = 8 * vision.hidden_size + 2 * vision.intermediate_size + scores
    return -(-tokens * vision.num_hidden_layers * layer // patches)

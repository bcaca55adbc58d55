"""Bytes on one device while a phase trains, every process holding the whole model (data parallel).

weights      4 B a parameter: float32, also under bf16
autocast     bf16 only: 2 B for each value of the matrices that autocast casts (all but the embedding table, which is looked up)
gradients    4 B for each parameter of a trainable role
optimizer    AdamW's two moments, 8 B for each parameter trained in this phase or an earlier one: freezing keeps the moments
ema          4 B a parameter when `training.ema` is set: averages are kept of the whole model
activations  an estimate of what the backward pass needs of one micro-batch. 4 B a value, also under bf16: autocast leaves the
             residual stream, norms and expert inputs in float32 (measured: 3.3 to 3.9 B). Values for each token and decoder
             layer: both norms' inputs and outputs (4d); queries and keys before and after rotation, values and attention's
             output (2q + 2k + v + o); for each of the experts that a token passes a gathered input, gate, up, SiLU, their
             product and the output (2d + 4f); the same of shared experts, or of a feed-forward without experts (4s + d). With
             activation checkpointing: d of each layer, and all of one. `eager` attention keeps scores and probabilities too
             (2 · heads · S). Logits: 8 B for each word of the vocabulary and each token, as if all were text. A trained vision
             encoder: its layers' activations, as if every token were `vit`. Temporary buffers and the allocator's slack are
             not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from smoe_cli.families import Backbone
from smoe_cli.plan.attention import attention_of
from smoe_cli.plan.types import Memory, Tensor
from smoe_cli.plan.vision import Sight
from smoe_cli.recipe.models import Phase, Recipe

LOOKED_UP = ".embed_tokens.weight"


def memory(
    recipe: Recipe,
    phase: Phase,
    kept: Kept,
    tensors: Iterable[Tensor],
    trainable: set[str],
    trained: set[str],
    processes: int,
) -> Memory:
    """Memory of one process of `processes` in `phase`.

    kept: what the backward pass needs. trainable: roles trained in this phase; trained: those and roles of earlier phases.
    """
    total = cast = learning = moving = 0
    for tensor in tensors:
        total += tensor.numel
        cast += tensor.numel if len(tensor.shape) > 1 and not tensor.name.endswith(LOOKED_UP) else 0
        learning += tensor.numel if tensor.role in trainable else 0
        moving += tensor.numel if tensor.role in trained else 0
    return Memory(
        weights=4 * total,
        autocast=2 * cast if recipe.training.precision == "bf16" else 0,
        gradients=4 * learning,
        optimizer=8 * moving,
        ema=4 * total if recipe.training.ema else 0,
        activations=_activations(recipe, phase, kept, trainable, processes),
    )


def _activations(recipe: Recipe, phase: Phase, kept: Kept, trainable: set[str], processes: int) -> int:
    length = recipe.data.sequence_length
    tokens = length * -(-phase.tokens_per_step // (length * phase.accumulate * processes))  # the fullest process: whole rows
    again = recipe.training.activation_checkpointing
    decoder = len(kept.layers) * kept.width + max(kept.layers) if again else sum(kept.layers)
    images = 0
    if "vision" in trainable and any(recipe.data.sources[name].task == "mmu" for name in phase.mixture):
        images = tokens * kept.vision
    return tokens * (4 * decoder + 8 * kept.vocab_size) + 4 * images


@dataclass(frozen=True)
class Kept:
    """Values kept for the backward pass: layers: of one token in each decoder layer; width: of the stream between them; vision:
    of one `vit` token in the vision encoder."""

    layers: tuple[int, ...]
    width: int
    vocab_size: int
    vision: int

    @classmethod
    def of(cls, recipe: Recipe, backbone: Backbone, sight: Sight | None, tensors: Iterable[Tensor], top_k: int) -> Kept:
        """tensors: those of the built model."""
        d, attention = backbone.hidden_size, attention_of(backbone)
        eager = recipe.training.attention == "eager"
        scores = 2 * attention.heads * recipe.data.sequence_length if eager else 0
        before = 4 * d + 2 * attention.queries + 2 * attention.keys + attention.values + attention.outputs + scores
        inside = [0] * backbone.layers
        routed = [0] * backbone.layers  # the widest expert of a layer; groups of different pools have different ones
        for tensor in tensors:
            if found := _DOWN.fullmatch(tensor.name):
                layer, block, width = int(found[1]), found[2], tensor.shape[-1]
                if block.startswith(".experts."):
                    routed[layer] = max(routed[layer], top_k * (2 * d + 4 * width))
                elif block == ".promoted":
                    inside[layer] += tensor.shape[0] * (2 * d + 4 * width)
                else:
                    inside[layer] += 4 * width + d
        layers = tuple(before + own + more for own, more in zip(inside, routed, strict=True))
        return cls(layers, d, backbone.vocab_size, _vision_token(sight, eager) if sight else 0)


_DOWN = re.compile(r"backbone\..*\.layers\.(\d+)\.\w+((?:\.\w[\w-]*)*)\.down_proj(?:\.weight)?")


def _vision_token(sight: Sight, eager: bool) -> int:
    """Values kept for one `vit` token in the vision encoder: norms, q, k, v, output; the feed-forward before and after GELU."""
    positions = sight.patches + sight.class_tokens
    layer = 8 * sight.hidden_size + 2 * sight.intermediate_size + (2 * sight.heads * positions if eager else 0)
    return -(-positions * sight.layers * layer // sight.tokens)

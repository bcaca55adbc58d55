"""Where the decoder comes from, and what its shared experts are then."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.recipe.backbones import Backbone, Scratch
from smoe_cli.recipe.checks.sizes import multiples
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.models import Recipe, Shared
from smoe_cli.recipe.sizes import BYTES_VOCABULARY, bytewise
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import all_of, count, one_of

MAX_LAYERS = 1_000
MAX_EXPERTS = 1_000_000
"""Over all layers. Far above any model; beyond lies a slip of the keyboard that would fill the memory."""

_BACKBONE: Path = ("model", "backbone")
_SCRATCH: Path = (*_BACKBONE, "scratch")
_SHARED: Path = ("model", "shared")


def check_backbone(recipe: Recipe) -> Iterator[Problem]:
    """What can be known without the checkpoint; the plan checks the rest."""
    backbone = recipe.model.backbone
    yield from _one(backbone)
    if backbone.scratch is not None:
        yield from _scratch(backbone.scratch)
        yield from _vocabulary(recipe, backbone.scratch)
        yield from _kernel(recipe, backbone.scratch)
        yield from _shared_scratch(recipe, backbone.scratch)
    if backbone.upcycle is not None:
        if backbone.upcycle.top_k > backbone.upcycle.experts:
            message = f"top-{backbone.upcycle.top_k} of {count(backbone.upcycle.experts, 'expert')} is not possible"
            yield Problem((*_BACKBONE, "upcycle", "top_k"), message)
        yield from _shared_upcycle(recipe)


def _one(backbone: Backbone) -> Iterator[Problem]:
    ways = list(type(backbone).model_fields)
    given = [way for way in ways if getattr(backbone, way) is not None]
    if not given:
        yield Problem(_BACKBONE, f"`model.backbone` needs {one_of(ways)}", "where the decoder comes from", key=True)
    for way in given[1:]:
        message = f"a backbone comes from one place, but {all_of(given)} are given"
        help = f"keep one of them; where a recipe extends another, `{given[0]}: null` removes it"
        yield Problem((*_BACKBONE, way), message, help, key=True)
        return


def _scratch(scratch: Scratch) -> Iterator[Problem]:
    layers, experts = scratch.num_hidden_layers, scratch.num_experts
    if layers > MAX_LAYERS:
        yield Problem((*_SCRATCH, "num_hidden_layers"), f"at most {count(MAX_LAYERS, 'layer')}")
    elif layers * experts > MAX_EXPERTS:
        message = (
            f"{count(layers, 'layer')} of {count(experts, 'expert')} are {layers * experts:,} experts; at most {MAX_EXPERTS:,}"
        )
        yield Problem((*_SCRATCH, "num_experts"), message)
    if scratch.num_experts_per_tok > experts:
        message = f"top-{scratch.num_experts_per_tok} of {count(experts, 'expert')} is not possible"
        yield Problem((*_SCRATCH, "num_experts_per_tok"), message)
    width, heads, shared = scratch.hidden_size, scratch.num_attention_heads, scratch.num_key_value_heads
    if width % heads:
        message = f"`hidden_size` {width} is not a multiple of `num_attention_heads` {heads}"
        yield Problem((*_SCRATCH, "hidden_size"), message, multiples(width, heads))
    elif (width // heads) % 2:
        message = f"{width} / {heads} heads = {width // heads} channels a head; rotary positions need an even number"
        yield Problem((*_SCRATCH, "hidden_size"), message, multiples(width, 2 * heads))
    if heads % shared:
        message = f"`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {shared}"
        divisors = [str(n) for n in range(1, min(heads, 1024) + 1) if heads % n == 0]
        yield Problem((*_SCRATCH, "num_key_value_heads"), message, f"{_either(divisors)} would do")


def _kernel(recipe: Recipe, scratch: Scratch) -> Iterator[Problem]:
    """torch's grouped matrix product needs rows of a multiple of 16 bytes."""
    if recipe.training.experts != "grouped_mm":
        return
    multiple = 8 if recipe.training.precision == "bf16" else 4
    for key, width in (("hidden_size", scratch.hidden_size), ("moe_intermediate_size", scratch.moe_intermediate_size)):
        if width % multiple:
            precision = recipe.training.precision
            message = f"`{key}` {width} is not a multiple of {multiple}, which the kernel `grouped_mm` needs in {precision}"
            yield Problem((*_SCRATCH, key), message, f"{multiples(width, multiple)}, or set training.experts: eager")


def _vocabulary(recipe: Recipe, scratch: Scratch) -> Iterator[Problem]:
    size = scratch.vocab_size
    if not bytewise(recipe) and size is None:
        message = "a pretrained tokenizer needs `vocab_size`, the number of rows of the embedding"
        yield Problem(_SCRATCH, message, "add `vocab_size`: the tokenizer's size or more", key=True)
    if bytewise(recipe) and size is not None and size < BYTES_VOCABULARY:
        message = f"the built-in tokenizer has {BYTES_VOCABULARY} tokens; {size} rows are too few"
        yield Problem((*_SCRATCH, "vocab_size"), message, "leave `vocab_size` out")


def _shared_scratch(recipe: Recipe, scratch: Scratch) -> Iterator[Problem]:
    shared, has = recipe.model.shared, f"`{scratch.family}` has shared experts"
    help = "say how wide they are: `shared: {intermediate_size: …}`"
    if shared is None:
        yield Problem(_SHARED, f"`model` lacks the key `shared`: {has}", help, key=True)
    elif shared == "none":
        yield Problem(_SHARED, has, help)
    else:
        if shared.intermediate_size is None:
            yield Problem(_SHARED, "`model.shared` lacks the key `intermediate_size`", help, key=True)
        if shared.promote is not None:
            yield Problem((*_SHARED, "promote"), f"{has} already; `promote` is for families without", "remove it", key=True)


def _shared_upcycle(recipe: Recipe) -> Iterator[Problem]:
    shared, upcycle = recipe.model.shared, recipe.model.backbone.upcycle
    assert upcycle is not None
    if shared == "none" and upcycle.shared:
        message = f"`upcycle` makes {count(upcycle.shared, 'shared expert')}, and `none` leaves them out"
        yield Problem(_SHARED, message, "set `model.backbone.upcycle.shared: 0`, and remove this")
    if isinstance(shared, Shared) and not upcycle.shared:
        yield Problem(_SHARED, "`shared` has no effect: `upcycle.shared` is 0", "remove it, or raise that", key=True)


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]

"""Shapes that must fit together, and parts of the model that must be used."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.models import Latents, Recipe, Scratch, Vision
from smoe_cli.recipe.sizes import BYTES_VOCABULARY
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import count

MAX_LAYERS = 1_000
MAX_EXPERTS = 1_000_000
"""Over all layers. Far above any model; beyond lies a slip of the keyboard that would fill the memory."""

_SCRATCH: Path = ("model", "backbone", "scratch")


def check_model(recipe: Recipe) -> Iterator[Problem]:
    """Backbone, tokenizer, vision encoder and latent interface."""
    model = recipe.model
    yield from _backbone(model.backbone.scratch)
    yield from _vocabulary(recipe)
    yield from _kernel(recipe)
    tasks = {recipe.data.sources[name].task for phase in recipe.phases for name in phase.mixture if name in recipe.data.sources}
    if model.vision is not None:
        yield from _vision(model.vision)
        if "mmu" not in tasks:
            yield _unused("vision", "mmu")
    if model.latents is not None:
        yield from _latents(model.latents)
        if "t2i" not in tasks:
            yield _unused("latents", "t2i")


def _unused(part: str, task: str) -> Problem:
    message = f"`{part}` has no effect: no phase trains on a source with task `{task}`"
    return Problem(("model", part), message, f"add such a source to a phase's mixture, or remove `{part}`", key=True)


def _backbone(scratch: Scratch) -> Iterator[Problem]:
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
        yield Problem((*_SCRATCH, "hidden_size"), message, _multiples(width, heads))
    elif (width // heads) % 2:
        message = f"{width} / {heads} heads = {width // heads} channels a head; rotary positions need an even number"
        yield Problem((*_SCRATCH, "hidden_size"), message, _multiples(width, 2 * heads))
    if heads % shared:
        message = f"`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {shared}"
        divisors = [str(n) for n in range(1, min(heads, 1024) + 1) if heads % n == 0]
        yield Problem((*_SCRATCH, "num_key_value_heads"), message, f"{_either(divisors)} would do")


def _kernel(recipe: Recipe) -> Iterator[Problem]:
    """torch's grouped matrix product needs rows of a multiple of 16 bytes."""
    if recipe.training.experts != "grouped_mm":
        return
    multiple = 8 if recipe.training.precision == "bf16" else 4
    scratch = recipe.model.backbone.scratch
    for key, width in (("hidden_size", scratch.hidden_size), ("moe_intermediate_size", scratch.moe_intermediate_size)):
        if width % multiple:
            precision = recipe.training.precision
            message = f"`{key}` {width} is not a multiple of {multiple}, which the kernel `grouped_mm` needs in {precision}"
            yield Problem((*_SCRATCH, key), message, f"{_multiples(width, multiple)}, or set training.experts: eager")


def _vocabulary(recipe: Recipe) -> Iterator[Problem]:
    size = recipe.model.backbone.scratch.vocab_size
    if recipe.model.tokenizer.kind == "pretrained" and size is None:
        message = "a pretrained tokenizer needs `vocab_size`, the number of rows of the embedding"
        yield Problem(_SCRATCH, message, "add `vocab_size`: the tokenizer's size or more", key=True)
    if recipe.model.tokenizer.kind == "bytes" and size is not None and size < BYTES_VOCABULARY:
        message = f"the built-in tokenizer has {BYTES_VOCABULARY} tokens; {size} rows are too few"
        yield Problem((*_SCRATCH, "vocab_size"), message, "leave `vocab_size` out")


def _vision(vision: Vision) -> Iterator[Problem]:
    path: Path = ("model", "vision")
    yield from _patches(path, vision.image_size, vision.patch_size)
    if vision.num_hidden_layers > MAX_LAYERS:
        yield Problem((*path, "num_hidden_layers"), f"at most {count(MAX_LAYERS, 'layer')}")
    if vision.hidden_size % vision.num_attention_heads:
        message = f"`hidden_size` {vision.hidden_size} is not a multiple of `num_attention_heads` {vision.num_attention_heads}"
        yield Problem((*path, "hidden_size"), message, _multiples(vision.hidden_size, vision.num_attention_heads))
    if vision.family == "siglip_vision_model":
        for key in ("image_size", "patch_size"):
            height, width = getattr(vision, key)
            if height != width:
                message = f"`siglip_vision_model` takes squares, [{height}, {width}] is none"
                yield Problem((*path, key), message, "make it square, or use family `vit`")


def _latents(latents: Latents) -> Iterator[Problem]:
    yield from _patches(("model", "latents"), latents.image_size, latents.patch_size)


def _patches(path: Path, image: tuple[int, int], patch: tuple[int, int]) -> Iterator[Problem]:
    for side, whole, part in zip(("height", "width"), image, patch, strict=True):
        if whole % part:
            message = f"the {side} of the image, {whole}, is not a multiple of the {side} of a patch, {part}"
            yield Problem((*path, "image_size"), message, _multiples(whole, part))


def _multiples(value: int, step: int) -> str:
    """The multiples on both sides of a value."""
    below, above = value // step * step, (value // step + 1) * step
    return f"{below} or {above} would do" if below else f"{above} would do"


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]

"""Shapes that must fit together, and parts of the model that must be used."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.recipe.checks.backbone import MAX_LAYERS
from smoe_cli.recipe.checks.sizes import multiples
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.models import FreshVision, Latents, Recipe
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import count


def check_model(recipe: Recipe) -> Iterator[Problem]:
    """Vision encoder and latent interface."""
    model = recipe.model
    tasks = {recipe.data.sources[name].task for phase in recipe.phases for name in phase.mixture if name in recipe.data.sources}
    if model.vision is not None:
        if isinstance(model.vision, FreshVision):
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


def _vision(vision: FreshVision) -> Iterator[Problem]:
    path: Path = ("model", "vision")
    yield from _patches(path, vision.image_size, vision.patch_size)
    if vision.num_hidden_layers > MAX_LAYERS:
        yield Problem((*path, "num_hidden_layers"), f"at most {count(MAX_LAYERS, 'layer')}")
    if vision.hidden_size % vision.num_attention_heads:
        message = f"`hidden_size` {vision.hidden_size} is not a multiple of `num_attention_heads` {vision.num_attention_heads}"
        yield Problem((*path, "hidden_size"), message, multiples(vision.hidden_size, vision.num_attention_heads))
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
            yield Problem((*path, "image_size"), message, multiples(whole, part))

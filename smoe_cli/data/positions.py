"""Rotary positions of the tokens of a document: a temporal, a vertical and a horizontal one each.

Text counts on by one on all three axes. Inside an image that starts after position p − 1:

    shared      every token has p; what follows continues at p + 1 (BAGEL)
    sequential  p, p + 1, p + 2, …, as if it were text
    mrope       (p, p + row, p + column); what follows continues at p + max(rows, columns) (Qwen2-VL, arXiv 2409.12191,
                section 2.1, as `get_rope_index` of its successors in transformers has it)

A decoder that knows one position only takes the temporal one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smoe_cli.recipe.models import FreshVision, OwnVision

if TYPE_CHECKING:
    from smoe_cli.plan import Plan
    from smoe_cli.recipe.models import Recipe

AXES = 3


def text_positions(start: int, tokens: int) -> np.ndarray:
    """(3, tokens) int64."""
    return np.tile(np.arange(start, start + tokens, dtype=np.int64), (AXES, 1))


def image_positions(kind: str, start: int, grid: tuple[int, int]) -> np.ndarray:
    """(3, rows · columns) int64 of an image whose tokens come row by row. grid: (rows, columns)."""
    rows, columns = grid
    if kind == "sequential":
        return text_positions(start, rows * columns)
    inside = np.zeros((AXES, rows * columns), np.int64)
    if kind == "mrope":
        inside[1] = np.repeat(np.arange(rows), columns)
        inside[2] = np.tile(np.arange(columns), rows)
    return inside + start


def image_extent(kind: str, grid: tuple[int, int]) -> int:
    """How many positions after its own start the token after an image continues."""
    return {"shared": 1, "sequential": grid[0] * grid[1], "mrope": max(grid)}[kind]


def vit_layout(recipe: Recipe, plan: Plan) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) in pixels of an image to understand, and (rows, columns) of its tokens; zeros if the model sees none."""
    vision = recipe.model.vision
    if vision is None:
        return (0, 0), (0, 0)
    if isinstance(vision, FreshVision):
        return vision.image_size, _grid(vision.image_size, vision.patch_size)
    if isinstance(vision, OwnVision):
        geometry = plan.source.backbone.vision_geometry
        assert geometry is not None
        side = geometry.patch_size * geometry.merge_size
        return vision.image_size, _grid(vision.image_size, (side, side))
    assert plan.source.vision is not None
    config = plan.source.vision.config
    return pretrained_size(config), _grid(pretrained_size(config), _pair(config["patch_size"]))


def vae_layout(recipe: Recipe) -> tuple[tuple[int, int], tuple[int, int]]:
    """The same of an image to draw."""
    latents = recipe.model.latents
    return (latents.image_size, _grid(latents.image_size, latents.patch_size)) if latents else ((0, 0), (0, 0))


def pretrained_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) that a pretrained vision encoder was trained at, from its config."""
    return _pair(config["image_size"])


def _pair(size: Any) -> tuple[int, int]:
    """Configs give one number for a square."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _grid(size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    return size[0] // patch[0], size[1] // patch[1]

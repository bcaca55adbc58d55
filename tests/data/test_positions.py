"""Positions inside and after an image, against the table in the module."""

from __future__ import annotations

import numpy as np
import pytest

from smoe_cli.data.documents import POSITIONS, Column, DocumentBuilder
from smoe_cli.data.positions import image_extent, image_positions, pretrained_size, vae_layout, vit_layout
from smoe_cli.data.special import tokenizer_of
from smoe_cli.plan import compile_plan
from tests.data.make import picture
from tests.helpers import tiny


@pytest.mark.parametrize(
    ("kind", "temporal", "vertical", "horizontal", "extent"),
    [
        ("shared", [7] * 6, [7] * 6, [7] * 6, 1),
        ("sequential", [7, 8, 9, 10, 11, 12], [7, 8, 9, 10, 11, 12], [7, 8, 9, 10, 11, 12], 6),
        ("mrope", [7] * 6, [7, 7, 7, 8, 8, 8], [7, 8, 9, 7, 8, 9], 3),
    ],
)
def test_an_image_of_two_rows_and_three_columns(
    kind: str, temporal: list[int], vertical: list[int], horizontal: list[int], extent: int
) -> None:
    assert image_positions(kind, 7, (2, 3)).tolist() == [temporal, vertical, horizontal]
    assert image_extent(kind, (2, 3)) == extent


@pytest.mark.parametrize("kind", ["shared", "sequential", "mrope"])
def test_text_before_and_after_an_image_is_equal_on_all_axes(kind: str) -> None:
    recipe = tiny()
    plan = compile_plan(recipe)
    object.__setattr__(plan, "image_positions", kind)
    builder = DocumentBuilder(recipe, plan, tokenizer_of(recipe, plan))
    noise = np.zeros((plan.vae_tokens, plan.latent_dim), np.float32)
    for document in (builder.mmu(picture(), "q", "a"), builder.t2i(picture(), "caption", 0.5, noise)):
        positions, text = document.columns[POSITIONS], document.columns[Column.MODALITY] == 0
        assert (positions[:, text] == positions[0, text]).all()
        before, after = np.flatnonzero(~text)[[0, -1]] + [-1, 1]
        assert positions[0, : before + 1].tolist() == list(range(before + 1))
        assert positions[0, after] == before + 1 + image_extent(kind, (1, 4))
        assert (np.diff(positions[0, after:]) == 1).all()


def test_layouts_of_a_recipe() -> None:
    recipe = tiny(**{"model.latents.image_size": [16, 24]})
    assert vit_layout(recipe, compile_plan(recipe)) == ((8, 16), (1, 4))
    assert vae_layout(recipe) == ((16, 24), (2, 6))
    blind = recipe.model_copy(update={"model": recipe.model.model_copy(update={"vision": None, "latents": None})})
    assert vit_layout(blind, compile_plan(recipe)) == vae_layout(blind) == ((0, 0), (0, 0))


def test_size_of_a_pretrained_encoder() -> None:
    assert pretrained_size({"image_size": 224}) == (224, 224)
    assert pretrained_size({"image_size": [32, 64]}) == (32, 64)

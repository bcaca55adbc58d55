"""Recipes at the edge of what is allowed; what lies beyond is in `mistakes/`."""

from __future__ import annotations

import pytest

from smoe_cli.recipe import RecipeError, load
from tests.recipe.helpers import RECIPES


def fits(*overrides: str, recipe: str = "complete.yaml") -> bool:
    try:
        load(RECIPES / recipe, overrides)
    except RecipeError:
        return False
    return True


def edge(allowed: str, refused: str, *others: str, recipe: str = "complete.yaml") -> None:
    assert fits(allowed, *others, recipe=recipe)
    assert not fits(refused, *others, recipe=recipe)


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        ("phases.1.warmup=999", "phases.1.warmup=1000"),
        ("phases.1.shields.0.factor={0: 0, 999: 1}", "phases.1.shields.0.factor={0: 0, 1000: 1}"),
        ("phases.1.shields.0.factor={0: 0}", "phases.1.shields.0.factor={1: 0}"),
        ("data.sequence_length=32", "data.sequence_length=48"),  # 1024 tokens in 2 micro-batches
        ("model.backbone.scratch.max_position_embeddings=64", "model.backbone.scratch.max_position_embeddings=63"),
        ("model.backbone.scratch.vocab_size=261", "model.backbone.scratch.vocab_size=260"),
        ("model.backbone.scratch.num_key_value_heads=1", "model.backbone.scratch.num_key_value_heads=3"),
        ("model.backbone.scratch.num_hidden_layers=1000", "model.backbone.scratch.num_hidden_layers=1001"),
        ("model.backbone.scratch.num_experts_per_tok=1", "model.backbone.scratch.num_experts_per_tok=3"),
        ("data.sources.draw.length=[3, 3]", "data.sources.draw.length=[4, 3]"),
        ("training.sampling.guidance_interval=[0, 1]", "training.sampling.guidance_interval=[1, 1]"),
        ("model.groups.0.select=last", "model.groups.0.select=rest"),
        ("model.groups.0.select=[0, 1, 2, 3, 4, 7]", "model.groups.0.select=[0, 1, 2, 3, 4, 8]"),
        ("model.groups.0.select=[5, 4, 3, 2, 1, 0]", "model.groups.0.select=[-1, 4, 3, 2, 1, 0]"),
        ("phases.1.shields.0.modalities=[vae, text]", "phases.1.shields.0.modalities=[]"),
        ("phases.0.loss.text=0", "phases.0.loss.flow=0"),
        ("data.sources.read.question=What?", "data.sources.draw.question=What?"),
        ("data.sources.draw.captions=long", "data.sources.read.captions=long"),
        ("data.sources.draw.caption_dropout=0", "data.sources.read.caption_dropout=0"),
        (
            "data.sources.draw={kind: emoji, task: t2i, image_size: [16, 48]}",
            "data.sources.draw={kind: emoji, task: t2i, image_size: [16, 48], on_bad_row: skip}",
        ),
        (
            "evaluation.tasks=[{task: arc-easy, data: here}]",
            "evaluation.tasks=[{task: arc-easy, data: here}, {task: arc-easy, data: here}]",
        ),
    ],
)
def test_edge(allowed: str, refused: str) -> None:
    edge(allowed, refused)


def test_longest_sample_fits_exactly() -> None:
    """6 patches, 3 characters, 4 special tokens."""
    rows = ("phases.0.tokens_per_step=1300", "phases.1.tokens_per_step=2600")
    assert fits("data.sequence_length=13", *rows)
    with pytest.raises(RecipeError, match="a sample of `read` takes 13 tokens or more"):
        load(RECIPES / "complete.yaml", ["data.sequence_length=10", *rows])


def test_first_and_last_leave_the_rest() -> None:
    """A list may follow `first`, if it names what is left."""
    assert fits("model.groups.1.select=[6, 7]")
    assert not fits("model.groups.1.select=[5, 6]")
    assert fits("model.groups.0.select=last", "model.groups.1.select=[0, 1]")
    assert not fits("model.groups.0.select=last", "model.groups.1.select=[1, 2]")


def test_random_after_lists() -> None:
    assert fits("model.groups.0.select=[0, 1, 2, 3, 4, 5]", "model.groups.1.select=random")
    assert fits("model.groups.0.select=random", "model.groups.1.select=random")


def test_shields_in_two_modes() -> None:
    other = "{module: shared, modalities: [vae], mode: weights, factor: 0.5}"
    first = "{module: shared, modalities: [vae], mode: path, factor: 0.5}"
    assert fits(f"phases.1.shields=[{first}, {other}]")
    assert not fits(f"phases.1.shields=[{first}, {first}]")


def test_source_that_only_an_evaluation_uses() -> None:
    seen = "data.sources.other={kind: rendered-text, task: mmu, image_size: [16, 48], content: words}"
    assert not fits(seen)
    assert fits(seen, "evaluation.tasks.0.source=other")


def test_written_without_effect_is_an_error_even_if_it_is_the_default() -> None:
    assert not fits("training.sampling.every=100", recipe="text.yaml")
    assert not fits("model.image_positions=shared", recipe="text.yaml")
    assert not fits("data.sources.prose.on_bad_row=error", recipe="text.yaml")


@pytest.mark.parametrize(
    "override",
    [
        "model.backbone.scratch.num_experts=1e15",
        "model.backbone.scratch.num_hidden_layers=1e15",
        "model.backbone.scratch.hidden_size=9007199254740993",
        "model.backbone.scratch.num_attention_heads=1e15",
        "model.vision.image_size=[1e15, 1e15]",
        "data.sequence_length=1e15",
        "phases.0.steps=1e15",
        "model.groups.0.experts=1e15",
        "data.sources.read.length=[1, 1e15]",
    ],
)
def test_huge_numbers_cost_nothing(override: str) -> None:
    fits(override)

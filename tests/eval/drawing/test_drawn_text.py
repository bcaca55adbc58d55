from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.drawn_text import agree, edit_distance, likeness
from smoe_cli.eval.models import Drawer, OpenModel
from smoe_cli.eval.results import Count
from smoe_cli.eval.run import evaluate
from smoe_cli.recipe.measures import DrawnText
from smoe_cli.recipe.models import RenderedText
from tests.eval.folders import READING_ONLY, build
from tests.helpers import tiny

DRAW = {"kind": "rendered-text", "task": "t2i", "image_size": [12, 24], "length": [2, 3], "colours": False, "noise": 0.0}
SPEC = RenderedText.model_validate(DRAW)


def opened(**changes: Any) -> OpenModel:
    return OpenModel(*build(tiny(**{"data.sources.draw": DRAW, **changes})))


def strings(count: int, seed: int = 0) -> list[str]:
    source = RenderedTextSource(SPEC.model_copy(update={"split": "heldout"}), seed)
    return [source.sample(index).text for index in range(count)]


def test_a_random_model_draws_nothing_that_can_be_read(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    task = DrawnText(task="drawn-text", source="draw", strings=6, seed=2, keep=3)
    [result] = evaluate(opened(), [task], tmp_path, prefix="joint-", batch_size=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert [name.split("/")[0] for name in result.metrics] == ["acc", "char_acc"]
    assert all("/rapidocr-1.4" in name for name in result.metrics)
    assert result.main.count is not None
    assert (result.main.count.correct, result.main.count.total) == (0, 6)
    assert result.details["judge_on_true_renderings"] == {"correct": 6, "total": 6}
    assert [one.facts["expected"] for one in result.predictions] == strings(6, 2)
    assert sum(count.total for count in result.groups.values()) == 6
    protocol = result.protocol
    assert (protocol["seed"], protocol["strings"], protocol["split"]) == (2, 6, "heldout")
    assert protocol["judge"]["name"] == next(iter(result.metrics)).removeprefix("acc/")
    rows = [json.loads(line) for line in (tmp_path / "data/joint-drawn-text/metadata.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == strings(3, 2)
    assert [row["file_name"] for row in rows] == ["000002.png", "000003.png", "000004.png"]


def test_true_renderings_score_as_the_judge_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that draws like the source, other renderings of the same strings, but for one picture without any."""

    @cache
    def true() -> dict[str, Image.Image]:
        source = RenderedTextSource(SPEC.model_copy(update={"split": "heldout"}), 9)
        return {one.text: one.image for one in map(source.sample, range(8))}

    def draw(self: Drawer, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        blank = Image.new("RGB", (24, 12), "white")
        return [blank if seed == 5 else true()[prompt] for prompt, seed in zip(prompts, seeds, strict=True)]

    monkeypatch.setattr(Drawer, "draw", draw)
    [result] = evaluate(opened(), [DrawnText(task="drawn-text", source="draw", strings=8)], batch_size=3)
    assert [one.correct for one in result.predictions] == [index != 5 for index in range(8)]
    assert [metric.value for metric in result.metrics.values()] == [7 / 8, 7 / 8]
    assert result.predictions[5].facts["read"] == ""


def test_long_captions_are_drawn_and_their_strings_are_read() -> None:
    long = opened(**{"data.sources.draw": DRAW | {"captions": "long", "image_size": [12, 24]}, "data.sequence_length": 128})
    [result] = evaluate(long, [DrawnText(task="drawn-text", source="draw", strings=2)])
    assert f'It reads "{result.predictions[0].facts["expected"]}" in' in result.predictions[0].facts["caption"]


def test_groups_stand_in_order_of_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drawer, "draw", lambda self, prompts, seeds: [Image.new("RGB", (8, 8), "white") for _ in prompts])
    wide = opened(**{"data.sources.draw": DRAW | {"length": [9, 10], "image_size": [16, 96]}})
    [result] = evaluate(wide, [DrawnText(task="drawn-text", source="draw", strings=4)])
    assert result.groups == {"9 characters": Count(0, 2), "10 characters": Count(0, 2)}
    assert list(result.groups) == ["9 characters", "10 characters"]
    assert result.details["different_strings"] == 4


def test_models_and_sources_that_do_not_fit() -> None:
    task = DrawnText(task="drawn-text", source="draw", strings=2)
    with pytest.raises(UserError, match="cannot draw"):
        evaluate(OpenModel(*build(tiny(**READING_ONLY))), [task])
    with pytest.raises(UserError, match="`read` is not a source with task `t2i`") as caught:
        evaluate(opened(), [task.model_copy(update={"source": "read"})])
    assert caught.value.help == "sources that can be used: draw"


@given(st.text("ab1", max_size=5), st.text("ab1", max_size=5))
def test_edit_distance_equals_its_definition(first: str, second: str) -> None:
    @cache
    def slow(i: int, j: int) -> int:
        if min(i, j) == 0:
            return max(i, j)
        return min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (first[i - 1] != second[j - 1]))

    assert edit_distance(first, second) == slow(len(first), len(second))


def test_likeness_and_agreement() -> None:
    assert agree(" Leaves", "leaves")
    assert not agree("8477", "847")
    assert [likeness("", "847"), likeness("847", "847"), likeness("8477", "847"), likeness("", "")] == [0, 1, 0.75, 1]

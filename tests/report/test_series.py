"""What the charts draw: thinned curves, and routing counts summed over frames."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.report import series
from smoe_cli.report.load import Run, Span, load_run

COLUMNS = [{"group": "u", "count": 2}, {"group": "g", "count": 1}]


def test_short_runs_are_drawn_as_logged(run_dir: Path) -> None:
    run = load_run(run_dir)
    curves = series.curves(run, run.metrics)
    assert curves["merged"] == 1
    assert curves["steps"] == [row["step"] for row in run.metrics]
    assert curves["low"] == {}
    for key in ("loss/total", "loss/flow", "lr/latents", "shield/shared/vae"):
        logged = [row.get(key) for row in run.metrics]
        assert curves["series"][key] == pytest.approx(logged, rel=1e-4) if None not in logged else True
        assert [value is None for value in curves["series"][key]] == [value is None for value in logged]


def test_zero_is_a_value_and_absence_is_none(run_dir: Path) -> None:
    curves = series.curves(run := load_run(run_dir), run.metrics)
    assert curves["series"]["lr/embeddings"][-1] == 0
    assert curves["series"]["lr/latents"][0] is None


def test_values_that_are_not_finite_are_none() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "loss/total": math.nan, "a": math.inf},
        {"step": 2, "loss/total": 2.0, "a": "text"},
    ]
    curves = series.curves(Run(Path(), "r"), rows)
    assert curves["series"] == {"loss/total": [None, 2.0]}
    json.dumps(curves, allow_nan=False)


def test_long_runs_are_thinned_within_phases() -> None:
    rows = [
        {"step": i, "phase": "a" if i <= 5 else "b", "loss/total": float(i), "lr/x": float(i), "skipped_steps": i}
        for i in range(1, 12)
    ]
    curves = series.curves(Run(Path(), "r"), rows, most=4)
    assert curves["merged"] == 3
    assert curves["steps"] == [3, 5, 8, 11]
    assert curves["phase"] == ["a", "a", "b", "b"]
    assert curves["series"]["loss/total"] == [2.0, 4.5, 7.0, 10.0]
    assert (curves["low"]["loss/total"], curves["high"]["loss/total"]) == ([1, 4, 6, 9], [3, 5, 8, 11])
    assert curves["series"]["lr/x"] == [3, 5, 8, 11], "settings are not averaged"
    assert curves["series"]["skipped_steps"] == [3, 5, 8, 11], "running totals are not averaged"
    assert "lr/x" not in curves["low"]


def line(step: int, text: list[list[int]], vae: list[list[int]], phase: Any = "a") -> dict[str, Any]:
    return {"step": step, "phase": phase, "experts": COLUMNS, "counts": {"vae": vae, "text": text}}


def run_of(*rows: dict[str, Any], **more: Any) -> Run:
    return replace(Run(Path(), "r", phases=(Span("a", 0, 10), Span("b", 10, 10))), routing=rows, **more)


def test_routing_frames() -> None:
    frames = series.routing(run_of(line(5, [[3, 1, 0]], [[0, 0, 0]]), line(10, [[2, 2, 0]], [[0, 0, 7]], phase=1)))
    assert frames is not None
    assert (frames["modalities"], frames["layers"], frames["merged"]) == (["text", "vae"], 1, 1)
    assert [(f["from"], f["to"], f["phase"]) for f in frames["frames"]] == [(0, 5, "a"), (5, 10, "b")]
    assert frames["frames"][1]["counts"] == {"text": [[2, 2, 0]], "vae": [[0, 0, 7]]}
    assert frames["served"] == {"text": [True, True, False], "vae": [False, False, True]}


def test_routing_sums_are_kept_when_frames_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [line(i, [[i, 2 * i, 0]], [[0, 0, i]], phase="a" if i <= 4 else "b") for i in range(1, 9)]
    frames = series.routing(run_of(*rows), most=6)
    assert frames is not None
    assert frames["merged"] == 4, "three counts a line are served"
    assert [f["phase"] for f in frames["frames"]] == ["a", "b"]
    assert [f["counts"]["text"] for f in frames["frames"]] == [[[10, 20, 0]], [[26, 52, 0]]]


@pytest.mark.parametrize(("moe_layers", "numbers"), [([1, 3], [1, 3]), ([1], [0, 1]), (None, [0, 1])])
def test_layers_are_numbered_as_in_the_decoder(moe_layers: list[int] | None, numbers: list[int]) -> None:
    frames = series.routing(run_of(line(5, [[3, 1, 0]] * 2, [[0, 0, 0]] * 2), plan={"moe_layers": moe_layers}))
    assert frames is not None
    assert frames["numbers"] == numbers


def test_a_token_in_a_group_that_does_not_serve_it_is_shown() -> None:
    plan = {"groups": [{"name": "u", "modalities": ["text"]}, {"name": "g", "modalities": ["vae"]}]}
    quiet = series.routing(run_of(line(1, [[1, 1, 0]], [[0, 0, 0]]), plan=plan))
    assert quiet is not None
    assert quiet["served"] == {"text": [True, True, False], "vae": [False, False, True]}
    leaking = series.routing(run_of(line(1, [[1, 1, 1]], [[0, 0, 0]]), plan=plan))
    assert leaking is not None
    assert leaking["served"]["text"] == [True, True, True]


def test_ceiling_is_the_load_that_nearly_all_cells_stay_below() -> None:
    even = series.routing(run_of(line(1, [[5, 5, 0]] * 3, [[0, 0, 1]] * 3)))
    skewed = series.routing(run_of(*(line(i, [[100, 0, 0]] * 3, [[0, 0, 1]] * 3) for i in range(1, 4))))
    assert even is not None
    assert skewed is not None
    assert even["ceiling"] == skewed["ceiling"] == 2.0
    wide = {**line(1, [[97, 1, 1, 1]] * 99, []), "experts": [{"group": "u", "count": 4}]}
    frames = series.routing(run_of(wide))
    assert frames is not None
    assert frames["ceiling"] == pytest.approx(3.9)


@pytest.mark.parametrize(
    "row",
    [
        {"step": 1},
        {"step": 1, "experts": "x", "counts": {}},
        {"step": 1, "experts": [{"group": "u", "count": 0}], "counts": {"text": [[1]]}},
        {"step": 1, "experts": COLUMNS, "counts": {"text": [1, 2]}},
    ],
)
def test_unusable_routing_lines_are_no_frames(row: dict[str, Any]) -> None:
    assert series.routing(run_of(row)) is None

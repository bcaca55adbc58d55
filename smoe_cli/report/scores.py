"""Scores over steps as curves: of every task that was measured at three steps or more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from smoe_cli.eval.compare.alike import fields
from smoe_cli.eval.results import Metric
from smoe_cli.report.evaluations import Score, interval
from smoe_cli.report.figures import Figures, Line, panel
from smoe_cli.report.load import Run
from smoe_cli.report.markup import Html

FEWEST = 3
"""A table says all there is to say of fewer results."""
LETTERS = 40
"""Most letters that say how the results of a curve were measured."""
COLOURS = ("ink", "a", "b", "c", "d", "e", "f")


def charts(run: Run, figures: Figures, name: str, scores: Sequence[Score]) -> Html:
    """Shares of right answers in one chart, every other metric in its own; nothing of fewer than three steps.

    A curve joins only results that were measured alike: others of the same task get curves of their own, named by what
    differs.
    """
    trained = [score for score in scores if score.step is not None]
    if len({score.step for score in trained}) < FEWEST:
        return Html("")
    alike: list[list[Score]] = []
    for score in trained:
        fitting = next((group for group in alike if not score.obstacle(group[0])), None)
        (fitting if fitting is not None else _new(alike)).append(score)
    drawn, ways = [], _ways(alike)
    for metrics, shares in _together(trained):
        first = next(iter(metrics))
        source = f"scores of {name}, {first}"
        lines = [(metric + way, metric, group) for metric in metrics for way, group in zip(ways, alike, strict=True)]
        figures.sets[source], keys = _set(run, lines, trained)
        spec: list[Line] = [(key, key, COLOURS[i % len(COLOURS)]) for i, key in enumerate(keys)]
        title = f"{name} over steps" if shares else f"{name}: {first} over steps"
        note = "Lower is better." if metrics[first].better == "lower" else ""
        if figures.sets[source]["low"]:
            note = f"{note} The band is the 95 % interval.".strip()
        options: dict[str, Any] = {"range": [0, 1]} if shares else {}
        drawn.append(figures.lines(f"scores-{len(figures.charts)}", title, note, spec, source=source, dots=True, **options))
    return panel(*drawn)


def _new(groups: list[list[Score]]) -> list[Score]:
    groups.append([])
    return groups[-1]


def _ways(groups: Sequence[Sequence[Score]]) -> list[str]:
    """What sets each group of results apart, `, shots 5`, or its number where that is no short text; nothing of one group."""
    if len(groups) == 1:
        return [""]
    asked = [fields(group[0].row) for group in groups]
    names = [name for name in dict.fromkeys(chain(*asked)) if len({one.get(name) for one in asked}) > 1]
    told = [(name, name.rpartition(".")[2]) for name in names if not name.endswith("sha256")]
    ways = [", ".join(f"{short} {one.get(name, '–')}".replace('"', "") for name, short in told) for one in asked]
    plain = len(set(ways)) == len(ways) and all(0 < len(way) <= LETTERS for way in ways)
    return [f", {way}" if plain else f", protocol {index}" for index, way in enumerate(ways, start=1)]


def _together(scores: Sequence[Score]) -> list[tuple[dict[str, Metric], bool]]:
    """Metrics by chart, and whether they are shares."""
    found = {name: metric for score in scores for name, metric in score.metrics.items()}
    shares = {name: metric for name, metric in found.items() if metric.count}
    rest = [({name: metric}, False) for name, metric in found.items() if not metric.count]
    return ([(shares, True)] if shares else []) + rest


def _set(
    run: Run, lines: Sequence[tuple[str, str, Sequence[Score]]], scores: Sequence[Score]
) -> tuple[dict[str, Any], list[str]]:
    """The arrays of `series.curves`, and the names of the lines that have a value. Bounds are those of the intervals.

    lines: the name of each, its metric and its results.
    """
    steps = sorted({score.step for score in scores if score.step is not None})
    series: dict[str, list[float | None]] = {}
    low: dict[str, list[float | None]] = {}
    high: dict[str, list[float | None]] = {}
    for key, name, group in lines:
        at = {score.step: score.metrics[name] for score in group if name in score.metrics}
        if not at:
            continue
        found = [at.get(step) for step in steps]
        series[key] = [None if metric is None else metric.value for metric in found]
        bounds = [None if metric is None else interval(metric) for metric in found]
        if any(bounds):
            low[key] = [None if bound is None else bound[0] for bound in bounds]
            high[key] = [None if bound is None else bound[1] for bound in bounds]
    phases = {score.step: run.phase_name(score.row.get("phase")) for score in scores}
    phase = [phases[step] for step in steps]
    bounds_are = ["95 % low", "95 % high"]
    made = {"steps": steps, "phase": phase, "merged": 1, "series": series, "low": low, "high": high, "bounds": bounds_are}
    return made, list(series)

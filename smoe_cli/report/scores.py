"""Scores over steps as curves: of every task that was measured at three steps or more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoe_cli.eval.results import Metric
from smoe_cli.report.evaluations import Score, interval
from smoe_cli.report.figures import Figures, Line, panel
from smoe_cli.report.load import Run
from smoe_cli.report.markup import Html

FEWEST = 3
"""A table says all there is to say of fewer results."""
COLOURS = ("ink", "a", "b", "c", "d", "e", "f")


def charts(run: Run, figures: Figures, name: str, scores: Sequence[Score]) -> Html:
    """Shares of right answers in one chart, every other metric in its own; nothing of fewer than three steps.

    A curve joins only results that were measured alike: others of the same task get curves of their own.
    """
    trained = [score for score in scores if score.step is not None]
    if len({score.step for score in trained}) < FEWEST:
        return Html("")
    alike: list[list[Score]] = []
    for score in trained:
        fitting = next((group for group in alike if not score.obstacle(group[0])), None)
        (fitting if fitting is not None else _new(alike)).append(score)
    drawn = []
    for metrics, shares in _together(trained):
        first = next(iter(metrics))
        source = f"scores of {name}, {first}"
        lines = [(metric, index, group) for metric in metrics for index, group in enumerate(alike)]
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


def _together(scores: Sequence[Score]) -> list[tuple[dict[str, Metric], bool]]:
    """Metrics by chart, and whether they are shares."""
    found = {name: metric for score in scores for name, metric in score.metrics.items()}
    shares = {name: metric for name, metric in found.items() if metric.count}
    rest = [({name: metric}, False) for name, metric in found.items() if not metric.count]
    return ([(shares, True)] if shares else []) + rest


def _set(
    run: Run, lines: Sequence[tuple[str, int, Sequence[Score]]], scores: Sequence[Score]
) -> tuple[dict[str, Any], list[str]]:
    """The arrays of `series.curves`, and the names of the lines that have a value. Bounds are those of the intervals."""
    steps = sorted({score.step for score in scores if score.step is not None})
    several = any(index for _, index, _ in lines)
    series: dict[str, list[float | None]] = {}
    low: dict[str, list[float | None]] = {}
    high: dict[str, list[float | None]] = {}
    for name, index, group in lines:
        key = f"{name}, protocol {index + 1}" if several else name
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

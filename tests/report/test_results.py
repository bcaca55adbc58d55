"""The section of results: tables of any metrics, curves over steps, how it was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smoe_cli.report.figures import Figures
from smoe_cli.report.load import Run, Span
from smoe_cli.report.results import results
from tests.report.synthetic import evaluation
from tests.report.test_page import words

BITS = {"bits_per_byte": {"value": 1.2345, "standard_error": 0.0678, "better": "lower"}}


def section(*rows: dict[str, Any]) -> tuple[str, Figures]:
    figures = Figures({"series": {}}, {"series": {}})
    run = Run(Path("nowhere"), "r", evaluations=rows, phases=(Span("p0", 0, 100), Span("p1", 100, 100)))
    return str(results(run, figures)), figures


def bits(step: int, value: float, **more: Any) -> dict[str, Any]:
    row = evaluation("p0", step, 0, task="bits-per-byte")
    metrics = {"bits_per_byte": {**BITS["bits_per_byte"], "value": value}}
    return {**row, "metrics": metrics, "groups": {}, "details": {"bytes": 12345}, **more}


def test_a_metric_that_is_no_share_has_its_standard_error() -> None:
    html, figures = section(bits(100, 1.2345))
    for shown in ("bits_per_byte (lower is better)", "1.234<", "0.068<", "12,345<", 'value="1.2345"', 'value="12345"'):
        assert shown in html, shown
    assert "correct" not in html
    assert not figures.charts, "one result is no curve"


def test_a_task_with_many_metrics_shows_all_of_them() -> None:
    row = evaluation("p0", 100, 100, task="picture-quality")
    row["metrics"] |= {
        "clip-score": {"value": 27.25, "standard_error": 0.5, "better": "higher"},
        "kid/efficientnet-lite0": {"value": 0.0125, "standard_error": None, "better": "lower"},
    }
    html, _ = section(row)
    for shown in ("exact", "96/200", "clip-score", "27.25", "0.5", "kid/efficientnet-lite0 (lower is better)", "0.0125"):
        assert shown in words(html), shown


def test_scores_at_three_steps_are_a_curve_with_its_interval() -> None:
    html, figures = section(evaluation("p0", 0, 10), evaluation("p0", 40, 100), evaluation("p0", 100, 150))
    [(name, chart)] = figures.charts.items()
    assert f'data-chart="{name}"' in html
    assert [line["key"] for line in chart["lines"]] == ["acc", "exact"]
    drawn = figures.sets[chart["from"]]
    assert (drawn["steps"], drawn["series"]["acc"]) == ([0, 40, 100], [0.05, 0.5, 0.75])
    assert all(
        low < value < high
        for low, value, high in zip(drawn["low"]["acc"], drawn["series"]["acc"], drawn["high"]["acc"], strict=True)
    )


def test_metrics_of_other_units_have_charts_of_their_own() -> None:
    rows = [evaluation("p0", step, 100) for step in (10, 20, 30)]
    for row in rows:
        row["metrics"] |= BITS
    _, figures = section(*rows)
    assert [[line["key"] for line in chart["lines"]] for chart in figures.charts.values()] == [
        ["acc", "exact"],
        ["bits_per_byte"],
    ]


def test_a_curve_never_joins_results_of_different_protocols() -> None:
    rows = [evaluation("p0", step, step) for step in (10, 20, 30)]
    rows[1]["protocol"] = {**rows[1]["protocol"], "shots": 5}
    html, figures = section(*rows)
    [chart] = figures.charts.values()
    drawn = figures.sets[chart["from"]]["series"]
    assert drawn["acc, shots 0"] == [0.05, None, 0.15]
    assert drawn["acc, shots 5"] == [None, 0.1, None]
    assert words(html).count("– (other protocol: shots)") == 2


def test_curves_that_no_short_text_tells_apart_are_numbered() -> None:
    rows = [evaluation("p0", step, step) for step in (10, 20, 30)]
    rows[1]["protocol"] = {**rows[1]["protocol"], "prompt_sha256": "ab" * 32}
    _, figures = section(*rows)
    [chart] = figures.charts.values()
    assert [line["key"] for line in chart["lines"]] == [
        f"{metric}, protocol {i}" for metric in ("acc", "exact") for i in (1, 2)
    ]


def test_a_hash_is_shown_by_its_beginning_and_saved_in_full() -> None:
    sha = "0123456789abcdef" * 4
    html, _ = section({**evaluation("p0", 50, 100), "hashes": {"data": {"sha256": sha}}})
    assert f'<data value="{sha}">0123456789ab…</data>' in html


def test_what_differs_between_results_stands_beside_what_does_not() -> None:
    rows = [evaluation("p0", 50, 100), {**evaluation("p0", 100, 100), "circumstances": {"batch_size": 8}}]
    html, _ = section(*rows)
    common, each = html.split("What differs between the results:")
    assert "protocol: shots" in common
    assert "circumstances: batch_size" not in common
    assert "circumstances: batch_size" in each

"""Did understanding survive: which results are compared, and what is concluded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.report.load import Run, Span
from smoe_cli.report.verdict import drawing_start, histories, others, understanding
from tests.report.synthetic import evaluation

SOURCES = {"prose": {"task": "lm"}, "read": {"task": "mmu"}, "draw": {"task": "t2i"}}


def run(*results: dict[str, Any], mixtures: tuple[str, ...] = ("read", "read draw"), **more: Any) -> Run:
    phases = [{"name": f"p{i}", "mixture": dict.fromkeys(names.split(), 1)} for i, names in enumerate(mixtures)]
    recipe = {"data": {"sources": SOURCES}, "phases": phases}
    spans = tuple(Span(f"p{i}", 100 * i, 100) for i in range(len(mixtures)))
    return replace(Run(Path(), "r", recipe=recipe, phases=spans, evaluations=results), **more)


def test_the_last_result_before_drawing_is_compared_with_the_last_one() -> None:
    [verdict] = understanding(
        run(
            evaluation("p0", 100, 120),
            evaluation("p1", 200, 150),
            evaluation("p2", 300, 90),
            evaluation("p3", 400, 100),
            mixtures=("read", "prose", "read draw", "draw"),
        )
    )
    assert verdict.before is not None
    assert (verdict.before.step, verdict.after.step) == (200, 400)
    assert verdict.change is not None
    assert verdict.change[0] == pytest.approx((100 - 150) / 200)
    assert verdict.word == "fell"


@pytest.mark.parametrize(("after", "word"), [(149, "kept"), (157, "kept"), (120, "fell"), (185, "rose")])
def test_a_change_is_called_one_only_when_its_interval_excludes_zero(after: int, word: str) -> None:
    [verdict] = understanding(run(evaluation("p0", 100, 153), evaluation("p1", 200, after)))
    assert verdict.word == word


def test_what_never_worked_is_not_called_kept() -> None:
    words = [understanding(run(evaluation("p0", 100, 0), evaluation("p1", 200, after)))[0].word for after in (0, 1, 100)]
    assert words == ["nothing", "nothing", "rose"]


def test_without_drawing_the_first_result_is_the_yardstick() -> None:
    results = [evaluation("p", step, 100 + step) for step in (10, 20, 30)]
    [verdict] = understanding(run(*results, mixtures=("read", "read")))
    assert drawing_start(run(mixtures=("read", "read"))) is None
    assert verdict.before is not None
    assert (verdict.before.step, verdict.after.step) == (10, 30)


def test_one_result_is_compared_with_nothing() -> None:
    [verdict] = understanding(run(evaluation("p1", 200, 153)))
    assert verdict.before is None
    assert verdict.word == "unknown"


def test_a_later_measurement_of_the_final_model_is_shown_but_not_judged() -> None:
    later = {**evaluation("", 0, 10), "phase": None, "step": None}
    one = run(evaluation("p0", 100, 153), evaluation("p1", 200, 149), later)
    [verdict] = understanding(one)
    assert verdict.after.step == 200
    assert [score.when for score in histories(one)["rendered-ocr · read"]] == ["p0", "p1", "the final model"]


def test_tasks_with_other_names_or_sources_stay_apart() -> None:
    a, b = evaluation("p0", 100, 1), evaluation("p0", 100, 2)
    b["protocol"] = {"source": "words"}
    c = {**evaluation("p0", 100, 3, task="ocrbench"), "name": "custom-ocr", "protocol": {}}
    assert list(histories(run(a, b, c))) == ["rendered-ocr · read", "rendered-ocr · words", "ocrbench · custom-ocr"]


def asked(phase: str, step: int, correct: int, total: int = 200, **protocol: Any) -> dict[str, Any]:
    """A result of mmlu as `smoe eval` writes it."""
    row = evaluation(phase, step, correct, total, task="mmlu")
    protocol = {"shots": 5, "limit": None, "prompt_sha256": "aa", **protocol}
    return {**row, "protocol": protocol, "hashes": {"data": {"sha256": "dd", "files": 3}, "model": None}}


OTHERWISE = [
    ({**asked("p1", 200, 60), "hashes": {"data": {"sha256": "ee", "files": 3}}}, "other questions"),
    ({**asked("p1", 200, 60), "hashes": {}}, "other questions"),
    (asked("p1", 200, 60, limit=100), "other questions"),
    (asked("p1", 200, 60, total=100), "other questions"),
    (asked("p1", 200, 60, shots=0), "other protocol"),
    (asked("p1", 200, 60, prompt_sha256="bb"), "other protocol"),
]


@pytest.mark.parametrize(("after", "obstacle"), OTHERWISE)
def test_results_that_were_not_measured_alike_are_not_compared(after: dict[str, Any], obstacle: str) -> None:
    [verdict] = understanding(run(asked("p0", 100, 150), after))
    assert (verdict.change, verdict.word, verdict.obstacle) == (None, "unknown", obstacle)


def test_another_model_is_what_a_comparison_is_for() -> None:
    after = asked("p1", 200, 60, batch_size=4)
    after["hashes"] = {**after["hashes"], "model": {"sha256": "ff"}}
    [verdict] = understanding(run(asked("p0", 100, 150), after))
    assert (verdict.word, verdict.obstacle) == ("fell", None)


def test_like_is_compared_with_like_where_there_is_any() -> None:
    """A recipe may measure mmlu with 5 shots and with none after each phase: all are results of one task."""
    ways = [asked("p0", 100, 150), asked("p0", 100, 90, shots=0), asked("p1", 200, 80, shots=0), asked("p1", 200, 140)]
    [verdict] = understanding(run(*ways))
    assert verdict.before is not None
    assert (verdict.before.correct, verdict.after.correct) == (150, 140)


def test_other_tasks_are_not_judged() -> None:
    drawing = {"task": "drawing", "score": 0.4, "step": 200}
    assert understanding(run(drawing)) == []
    assert [(name, score.share) for name, score in others(run(drawing, {"task": "empty"}))] == [("drawing", 0.4)]


@pytest.mark.parametrize("counts", [{"correct": None}, {"total": 0}, {"correct": 300}, {"correct": "many"}, {"correct": -1}])
def test_impossible_counts_are_not_compared(counts: dict[str, Any]) -> None:
    [verdict] = understanding(run(evaluation("p0", 100, 153), {**evaluation("p1", 200, 149), **counts}))
    assert verdict.word == "unknown"

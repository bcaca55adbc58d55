"""Did understanding survive: which results are compared, and what is concluded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.eval.compare.paired import BOOTSTRAP, MCNEMAR, NEWCOMBE, NORMAL
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.results import Count
from smoe_cli.report.load import Run, Span
from smoe_cli.report.verdict import drawing, drawing_start, histories, understanding
from tests.report.synthetic import answers, evaluation, no_share, write_evaluation

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
    assert verdict.change.value == pytest.approx((100 - 150) / 200)
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
    assert verdict.lacks == "There is no result from before drawing began to compare with."


def test_a_later_measurement_of_the_final_model_is_shown_but_not_judged() -> None:
    later = {**evaluation("", 0, 10), "phase": None, "step": None}
    one = run(evaluation("p0", 100, 153), evaluation("p1", 200, 149), later)
    [verdict] = understanding(one)
    assert verdict.after.step == 200
    assert [score.when for score in histories(one)["rendered-ocr · read"]] == ["p0", "p1", "final model"]


@pytest.mark.parametrize("during", [[("p0", 0, 0)], [("p0", 0, 0), ("p0", 100, 153)]])
def test_what_was_measured_before_drawing_is_not_taken_for_what_came_of_it(during: list[tuple[str, int, int]]) -> None:
    """A run that was stopped while it learned to draw."""
    rows = [evaluation(*row) for row in during]
    [verdict] = understanding(run(*rows))
    assert (verdict.before, verdict.change, verdict.word) == (None, None, "unknown")
    assert (verdict.after.step, verdict.lacks) == (during[-1][1], "Not measured since drawing began.")


def test_the_final_model_stands_in_where_nothing_was_measured_since_drawing_began() -> None:
    later = {**evaluation("", 0, 90), "phase": None, "step": None}
    [verdict] = understanding(run(evaluation("p0", 100, 153), later))
    assert verdict.before is not None
    assert (verdict.before.step, verdict.after.step, verdict.word) == (100, None, "fell")


def test_tasks_with_other_names_or_sources_stay_apart() -> None:
    a, b = evaluation("p0", 100, 1), evaluation("p0", 100, 2)
    b["protocol"] = {**b["protocol"], "source": "words"}
    c = {**evaluation("p0", 100, 3, task="ocrbench"), "name": "custom-ocr", "protocol": {}}
    assert list(histories(run(a, b, c))) == ["rendered-ocr · read", "rendered-ocr · words", "ocrbench · custom-ocr"]


def asked(phase: str, step: int, correct: int, total: int = 200, **protocol: Any) -> dict[str, Any]:
    """A result of mmlu as `smoe eval` writes it."""
    row = evaluation(phase, step, correct, total, task="mmlu")
    return {**row, "protocol": {"shots": 5, "limit": None, "prompt_sha256": "aa", **protocol}}


OTHERWISE = [
    ({**asked("p1", 200, 60), "hashes": {"data": {"sha256": "ee", "files": 3}}}, "other questions"),
    ({**asked("p1", 200, 60), "hashes": {}}, "other questions"),
    (asked("p1", 200, 60, total=100), "other questions"),
    (asked("p1", 200, 60, limit=100), "other protocol: limit"),
    (asked("p1", 200, 60, prompt_sha256="bb", shots=0), "other protocol: shots, prompt_sha256"),
    (asked("p1", 200, 60, fold=True), "other protocol: fold"),
    ({**asked("p1", 200, 60), "task_version": 2}, "other protocol: task_version"),
]


@pytest.mark.parametrize(("after", "obstacle"), OTHERWISE)
def test_results_that_were_not_measured_alike_are_not_compared(after: dict[str, Any], obstacle: str) -> None:
    [verdict] = understanding(run(asked("p0", 100, 150), after))
    assert (verdict.change, verdict.word, verdict.obstacle) == (None, "unknown", obstacle)


def test_another_model_is_what_a_comparison_is_for() -> None:
    after = {**asked("p1", 200, 60), "circumstances": {"batch_size": 4}, "model": {"sha256": "ff"}}
    [verdict] = understanding(run(asked("p0", 100, 150), after))
    assert (verdict.word, verdict.obstacle) == ("fell", None)


def test_like_is_compared_with_like_where_there_is_any() -> None:
    """A recipe may measure mmlu with 5 shots and with none after each phase: all are results of one task."""
    ways = [asked("p0", 100, 150), asked("p0", 100, 90, shots=0), asked("p1", 200, 80, shots=0), asked("p1", 200, 140)]
    [verdict] = understanding(run(*ways))
    assert verdict.before is not None
    assert [score.main.count for score in (verdict.before, verdict.after)] == [Count(150, 200), Count(140, 200)]


def measured(task: str, step: int, value: float, error: float | None, better: str = "lower") -> dict[str, Any]:
    return no_share(task, "p1", step, {"m": (value, error, better)})


def test_drawing_is_judged_by_tasks_of_its_own_against_their_first_result() -> None:
    one = run(
        measured("image-distance", 120, 0.30, 0.01),
        measured("image-distance", 160, 0.25, 0.01),
        measured("image-distance", 200, 0.10, 0.01),
    )
    assert understanding(one) == []
    [verdict] = drawing(one)
    assert verdict.before is not None
    assert (verdict.before.step, verdict.after.step, verdict.word) == (120, 200, "rose")
    assert verdict.change is not None
    assert verdict.change.method == NORMAL
    half = 1.959964 * 0.01 * 2**0.5
    assert verdict.change.interval == pytest.approx((-0.2 - half, -0.2 + half))


@pytest.mark.parametrize(("better", "word"), [("lower", "fell"), ("higher", "rose")])
def test_which_way_is_better_depends_on_the_metric(better: str, word: str) -> None:
    [verdict] = drawing(run(measured("clip-score", 120, 0.2, 0.01, better), measured("clip-score", 200, 0.3, 0.01, better)))
    assert verdict.word == word


def test_a_value_without_a_standard_error_is_not_judged() -> None:
    [verdict] = drawing(run(measured("image-distance", 120, 30.0, None), measured("image-distance", 200, 20.0, None)))
    assert verdict.change is not None
    assert (verdict.change.value, verdict.change.interval, verdict.word, verdict.obstacle) == (-10.0, None, "unknown", None)


def paired(folder: Path, before: list[Any], after: list[Any]) -> Run:
    """153 and 149 of 200, with these predictions."""
    results = []
    for name, step, correct, predictions in (("p0", 100, 153, before), ("p1", 200, 149, after)):
        write_evaluation(folder / "eval", name, evaluation(name, step, correct), predictions)
        file = folder / "eval" / f"{name}.json"
        results.append({**json.loads(file.read_text(encoding="utf-8")), "file": str(file)})
    return run(*results)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "eval").mkdir()
    return tmp_path


def test_answers_to_the_same_questions_are_compared_question_by_question(folder: Path) -> None:
    """Four answers of 200 became wrong and none right: too few for Newcombe to see, and nearly enough for McNemar."""
    [verdict] = understanding(paired(folder, answers(153), answers(149)))
    assert verdict.change is not None
    assert (verdict.change.method, verdict.change.discordant) == (MCNEMAR, (4, 0))
    assert verdict.change.p == pytest.approx(2 * 0.5**4)
    [unpaired] = understanding(paired(folder, [], []))
    assert unpaired.change is not None
    assert unpaired.change.method == NEWCOMBE
    [low, high], [lowest, highest] = verdict.change.interval or (0, 0), unpaired.change.interval or (0, 0)
    assert lowest < low < -0.02 < high < highest


OTHERS = {
    "other questions": [Prediction(f"q{i}", correct=i < 149) for i in range(200)],
    "fewer questions": answers(149)[:-1],
    "a question twice": [*answers(149)[:-1], answers(149)[0]],
    "of another measurement": answers(150),
    "values": [Prediction(str(i), value=1.0) for i in range(200)],
}


@pytest.mark.parametrize("case", OTHERS)
def test_answers_that_are_not_those_of_the_results_are_left_alone(folder: Path, case: str) -> None:
    [verdict] = understanding(paired(folder, answers(153), OTHERS[case]))
    assert verdict.change is not None
    assert (verdict.change.method, verdict.change.p) == (NEWCOMBE, None)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"task": "rendered-ocr", "id": 1, "correct": "yes"}'])
def test_damaged_predictions_are_left_alone(folder: Path, content: bytes) -> None:
    one = paired(folder, answers(153), answers(149))
    (folder / "eval" / "p1.predictions.jsonl").write_bytes(content)
    assert [verdict.change and verdict.change.method for verdict in understanding(one)] == [NEWCOMBE]


def test_means_over_the_same_texts_are_resampled(folder: Path) -> None:
    results = []
    for name, step, better in (("p0", 100, 0.0), ("p1", 200, 0.3)):
        texts = [Prediction(str(i), value=(2.0 + i % 5 - better) * 10, weight=10.0) for i in range(50)]
        row = measured("bits-per-byte", step, 4.0 - better, 0.2)
        write_evaluation(folder / "eval", name, row, texts)
        file = folder / "eval" / f"{name}.json"
        results.append({**json.loads(file.read_text(encoding="utf-8")), "file": str(file)})
    [verdict] = understanding(run(*results))
    assert verdict.change is not None
    assert (verdict.change.method, verdict.word) == (BOOTSTRAP, "rose")
    assert verdict.change.value == pytest.approx(-0.3)
    assert verdict.change.interval == pytest.approx((-0.3, -0.3)), "every text gained the same"


def test_a_result_inside_a_phase_is_named_by_its_step() -> None:
    rows = [evaluation("p0", 0, 1), evaluation("p0", 40, 50), evaluation("p0", 100, 99), evaluation("p1", 140, 98)]
    [scores] = histories(run(*rows)).values()
    assert [score.when for score in scores] == ["step 0", "step 40", "p0", "step 140"]


def test_a_later_result_of_fewer_questions_does_not_hide_what_can_be_compared() -> None:
    """As `smoe eval RUN/checkpoints/step-… --limit 5` leaves one."""
    few = {**evaluation("p1", 200, 5, 5), "time": "2030-01-01T00:00:00+00:00"}
    [verdict] = understanding(run(evaluation("p0", 100, 120), evaluation("p1", 200, 150), few))
    assert verdict.before is not None
    assert verdict.after.main.count == Count(150, 200)
    assert verdict.word == "rose"
    [alone] = understanding(run(evaluation("p0", 100, 120), few))
    assert (alone.after.main.count, alone.word) == (Count(5, 5), "unknown")

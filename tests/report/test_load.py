"""Reading run directories, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.errors import UserError
from smoe_cli.report.load import Span, load_run
from tests.report.synthetic import evaluation, write_json


def test_a_finished_run_lacks_nothing(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert run.notes == ()
    assert run.finished
    assert run.name == "read-then-draw"
    assert run.phases == (Span("understanding", 0, 300), Span("generation", 300, 300))
    assert (run.last_step, run.total_steps) == (600, 600)
    assert [len(rows) for rows in (run.metrics, run.routing, run.timings, run.grids, run.evaluations)] == [60, 60, 60, 3, 2]


def test_a_torn_last_line_is_left_out_and_said(run_dir: Path) -> None:
    file = run_dir / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:41]) + lines[41][:37], encoding="utf-8")
    run = load_run(run_dir)
    assert [row["step"] for row in run.metrics] == list(range(10, 411, 10))
    assert any("metrics.jsonl" in note and "torn" in note for note in run.notes)


@pytest.mark.parametrize(
    "rubbish",
    ["not json", "[1, 2]", '{"no": "step"}', '{"step": "ten"}', '{"step": true}', '{"step": 1e3}', f'{{"step": 1{"0" * 400}}}'],
)
def test_a_damaged_line_in_the_middle_is_named(run_dir: Path, rubbish: str) -> None:
    file = run_dir / "routing.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:6], rubbish + "\n", *lines[6:]]), encoding="utf-8")
    run = load_run(run_dir)
    assert len(run.routing) == 60
    assert any("line 7" in note for note in run.notes)


def test_a_stretch_that_was_run_twice_counts_once(run_dir: Path) -> None:
    """Lines after the checkpoint that a killed run was resumed from are superseded by those of the second try."""
    file = run_dir / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    again = [{**row, "loss/total": 7.0} for row in rows[20:40]]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:50], *again]), encoding="utf-8")
    run = load_run(run_dir)
    assert [row["step"] for row in run.metrics] == list(range(10, 401, 10))
    assert {row["loss/total"] for row in run.metrics[20:]} == {7.0}


def test_missing_files_are_named_and_nothing_else_is_lost(run_dir: Path) -> None:
    for name in ("recipe.yaml", "environment.json", "data.json", "routing.jsonl", "timings.jsonl", "samples.jsonl"):
        (run_dir / name).unlink()
    run = load_run(run_dir)
    assert len(run.notes) == 6
    assert len(run.metrics) == 60
    assert run.recipe["name"] == "read-then-draw"


def test_damaged_json_and_yaml_are_named(run_dir: Path) -> None:
    (run_dir / "plan.json").write_text('{"phases": [', encoding="utf-8")
    (run_dir / "recipe.resolved.yaml").write_text("a: [", encoding="utf-8")
    (run_dir / "eval" / "generation-rendered-ocr.json").write_text("[]", encoding="utf-8")
    (run_dir / "eval" / "mmlu.json").write_text("", encoding="utf-8")
    run = load_run(run_dir)
    damaged = ("plan.json", "recipe.resolved.yaml", "generation-rendered-ocr.json", "mmlu.json")
    assert len(run.notes) == 4
    assert all(any(name in note for note in run.notes) for name in damaged)
    assert run.phases == (Span("understanding", 0, 300), Span("generation", 300, 300)), "from the recipe as written"


def test_a_run_that_does_not_draw_needs_no_samples(run_dir: Path) -> None:
    (run_dir / "samples.jsonl").unlink()
    recipe = run_dir / "recipe.resolved.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").split("training:")[0], encoding="utf-8")
    assert load_run(run_dir).notes == ()


def test_evaluations_are_in_order_and_those_without_a_step_last(run_dir: Path) -> None:
    write_json(run_dir / "eval" / "a.json", {**evaluation("x", 0, 140), "phase": None, "step": None})
    write_json(run_dir / "eval" / "z.json", evaluation("before", 0, 3))
    assert [row["step"] for row in load_run(run_dir).evaluations] == [0, 300, 600, None]


def test_repeated_evaluations_are_in_order_of_time_then_number(run_dir: Path) -> None:
    """`smoe eval` writes mmlu.json, mmlu-2.json, …; by name alone the first would be the last."""
    for number in range(1, 12):
        name = "mmlu.json" if number == 1 else f"mmlu-{number}.json"
        time = {6: "2026-11-21T12:00:00+00:00", 2: "2026-11-19T12:00:00+00:00"}.get(number, "2026-11-20T12:00:00+00:00")
        write_json(run_dir / "eval" / name, {**evaluation("", 0, number, task="mmlu"), "step": None, "time": time})
    found = [row["correct"] for row in load_run(run_dir).evaluations if row["task"] == "mmlu"]
    assert found == [2, 1, 3, 4, 5, 7, 8, 9, 10, 11, 6]


def test_phase_may_be_a_name_or_an_index(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert [run.phase_name(value) for value in ("generation", 1, 7, None, True)] == [
        "generation",
        "generation",
        "7",
        "",
        "True",
    ]


def test_a_sample_file_cannot_lead_out_of_the_run(run_dir: Path) -> None:
    (run_dir / "samples.jsonl").write_text(
        json.dumps({"step": 1, "file": "../../../etc/passwd", "prompts": ["x"]}) + "\n", encoding="utf-8"
    )
    assert load_run(run_dir).grids[0].file == run_dir / "samples" / "passwd"


def test_what_is_no_run_is_refused_with_help(run_dir: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        empty: "smoe train",
        run_dir.parent: "read-then-draw",
        run_dir / "metrics.jsonl": f"smoe report {run_dir}",
        run_dir.parent / "read-then-drew": f"did you mean {run_dir}",
        tmp_path / "no" / "such": "runs/<name>",
    }
    for path, help in cases.items():
        with pytest.raises(UserError) as caught:
            load_run(path)
        assert str(path) in caught.value.message
        assert help in (caught.value.help or ""), path


NEWER = {"format": 99, "task": "mmlu"}
OLD = {"task": "mmlu", "name": "mmlu", "score": 0.5, "correct": 1, "total": 2, "exact": None, "protocol": {}, "hashes": {}}
DAMAGED = {**evaluation("x", 10, 3), "metrics": {"acc": {"value": None}}}
IMPOSSIBLE = {**evaluation("x", 10, 3), "metrics": {"acc": {"value": 1.5, "correct": 300, "total": 200}}}


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (NEWER, "written by a newer smoe"),
        (OLD, "not a result of `smoe eval` in format 2"),
        (DAMAGED, "is damaged"),
        ({**evaluation("x", 10, 3), "metrics": {"acc": {"value": 10**400}}}, "is damaged"),
        ({**evaluation("x", 10, 3), "metrics": {"acc": {"value": 0.5, "correct": 1, "total": 1e299}}}, "is damaged"),
        (IMPOSSIBLE, "300 right of 200"),
        ({**evaluation("x", 10, 3), "metrics": {}}, "`metrics` is missing or damaged"),
    ],
)
def test_results_that_cannot_be_used_are_noted_and_left_out(run_dir: Path, result: dict[str, Any], said: str) -> None:
    write_json(run_dir / "eval" / "mmlu.json", result)
    run = load_run(run_dir)
    assert {Path(row["file"]).name for row in run.evaluations} == {
        "understanding-rendered-ocr.json",
        "generation-rendered-ocr.json",
    }
    [note] = run.notes
    assert note.startswith("eval/mmlu.json: ")
    assert said in note


def test_the_checkpoint_of_the_backbone_is_read_from_the_model_or_the_last_checkpoint(run_dir: Path) -> None:
    assert load_run(run_dir).backbone == {}
    for place, family in (("checkpoints/step-00000100", "old"), ("checkpoints/step-00000200", "olmoe"), ("model", "llama")):
        (run_dir / place).mkdir(parents=True, exist_ok=True)
        write_json(run_dir / place / "config.json", {"source": {"backbone": {"family": family}}})
        assert load_run(run_dir).backbone == {"family": family}

"""The files of `smoe eval`: none is lost when a later task fails, and none of another kind is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_cli.cli.main import run
from smoe_cli.errors import UserError
from smoe_cli.eval import run as eval_run
from smoe_cli.recipe.measures import ArcEasy
from tests.eval.folders import READING_ONLY, write_run
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_arc, write_mmlu
from tests.helpers import tiny
from tests.train import runs

QUESTION = {"question": "Which?", "choices": ["a", "b"], "answer": 1}
ANSWER = {"dataset": "svt", "question": "?", "question_type": "Doc-oriented VQA", "answer": ["x"], "prediction": "x"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a plain model and questions in it."""
    monkeypatch.chdir(tmp_path)
    tiny_qwen2_moe().save_pretrained("plain")
    byte_tokenizer().save_pretrained("plain")
    write_mmlu(Path("mmlu"), {"anatomy": 2})
    write_arc(Path("arc"), 3)
    Path("own.json").write_text(json.dumps([QUESTION]), encoding="utf-8")
    return tmp_path


BOTH = ("--tasks", "mmlu,arc-easy", "--data", "mmlu=mmlu", "--data", "arc-easy=arc")


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (UserError("no more"), 2), (MemoryError(), 1)])
def test_a_result_is_on_file_before_the_next_task_begins(
    end: BaseException, code: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[dict[str, Any]] = []

    def ends(*_: object) -> None:
        found.extend(json.loads(Path("out.json").read_text(encoding="utf-8")))
        raise end

    monkeypatch.setitem(eval_run.RUNNERS, ArcEasy, ends)
    write_run(place / "run")
    assert run(["eval", "run", *BOTH, "--json", "out.json", "--predictions", "out.jsonl"]) == code
    assert [(one["task"], one["total"], one["predictions"]) for one in found] == [("mmlu", 2, "out.jsonl")]
    assert len(Path("out.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert json.loads(Path("run/eval/mmlu.json").read_text(encoding="utf-8"))["total"] == 2
    assert "mmlu" in capsys.readouterr().out  # the table shows it as well


def test_what_a_model_cannot_do_is_said_before_anything_is_measured(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(place / "run", tiny(**READING_ONLY))
    monkeypatch.setattr(eval_run, "hash_weights", lambda model: pytest.fail("measured"))
    (place / "t.csv").write_text("caption\n", encoding="utf-8")
    monkeypatch.setattr("smoe_cli.eval.checks.check_tasks", lambda *_: None)
    asked = ("--tasks", "mmlu,image-distance", "--data", "mmlu=mmlu", "--data", "image-distance=t.csv")
    assert run(["eval", "run", *asked]) == 2
    assert "cannot draw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "own.json"), "own.json: exists and is not a JSON file of results"),
        (("--json", "plain/config.json"), "plain/config.json: exists and is not a JSON file of results"),
        (("--predictions", "rows.jsonl"), "rows.jsonl: exists and is not a file of predictions"),
        (("--json", "same.json", "--predictions", "./same.json"), "--predictions ./same.json: the file of --json"),
        (("--predictions", "-"), "--predictions -: answers go to a file"),
    ],
)
def test_other_files_stay(arguments: tuple[str, ...], message: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text(json.dumps({"task": "translate", "text": "x"}) + "\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(["eval", "plain", "--tasks", "multiple-choice", "--data", "own.json", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_answers_are_not_scored_into_the_file_that_they_come_from(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"task": task, "id": "1", "correct": True, **ANSWER} for task in ("ocrbench", "rendered-ocr")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    Path("answers.jsonl").write_text(text, encoding="utf-8")
    rescore = ("eval", "--rescore", "answers.jsonl", "--tasks", "ocrbench")
    assert run([*rescore, "--predictions", "answers.jsonl"]) == 2
    assert "the file of --rescore" in capsys.readouterr().err
    assert Path("answers.jsonl").read_text(encoding="utf-8") == text
    assert run([*rescore, "--engine", "lm-eval"]) == 2
    assert "--engine has no effect with --rescore" in capsys.readouterr().err


def test_a_file_whose_name_looks_like_markup(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.json").rename("[bold]x.json")
    assert run(["eval", "plain", "--tasks", "multiple-choice", "--data", "[bold]x.json"]) == 0
    assert "[bold]x" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["mmlu", "arc-easy"])
def test_numbers_that_are_none_give_no_score(task: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_qwen2_moe()
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    model.save_pretrained("plain")
    data = {"mmlu": "mmlu", "arc-easy": "arc"}[task]
    capsys.readouterr()
    assert run(["eval", "plain", "--tasks", task, "--data", data, "--json", "out.json"]) == 1
    shown = capsys.readouterr()
    assert "log-likelihoods are not finite" in shown.err
    assert shown.out == ""
    assert not Path("out.json").exists()


def test_results_of_a_checkpoint_stand_beside_those_of_its_run_with_the_step(tmp_path: Path) -> None:
    folder = runs.run(tmp_path, **{"training.checkpoints": {"every": 4, "keep": 9}, "evaluation": {"tasks": []}})
    first, *_ = sorted((folder / "checkpoints").iterdir())
    for _ in range(2):
        assert run(["eval", str(first), "--tasks", "rendered-ocr", "--limit", "2"]) == 0
    for name in ("step-00000004-rendered-ocr.json", "step-00000004-rendered-ocr-2.json"):
        result = json.loads((folder / "eval" / name).read_text(encoding="utf-8"))
        assert (result["step"], result["model"]["path"]) == (4, str(first))

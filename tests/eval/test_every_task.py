"""What every result says, whatever the task: enough to measure again, and to know what it may be compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.cli.main import run
from smoe_cli.eval.compare.alike import differing, fields
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.ocr.rendered import write_rendered
from smoe_cli.eval.predictions import read_predictions
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.results import Result
from smoe_cli.eval.run import evaluate
from smoe_cli.eval.tasks import TASKS
from smoe_cli.files import sha256
from smoe_cli.recipe.measures import ArcEasy, BitsPerByte, Mmlu, RenderedOcr
from tests.eval.drawing.seeing import write_clip, write_vit
from tests.eval.folders import build, write_run
from tests.eval.tiny import byte_tokenizer, hellaswag_rows, tiny_qwen2_moe, write_arc, write_mmlu
from tests.helpers import tiny

NEEDS = {"image-distance": "torchmetrics", "drawn-text": "rapidocr_onnxruntime"}
WITHOUT_ANSWERS = {"image-distance"}
"""Tasks that compare two sets of pictures, and nothing for each."""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and data for every task that reads some."""
    folder = tmp_path_factory.mktemp("all")
    write_run(folder / "run", tiny())
    write_mmlu(folder / "mmlu", {"anatomy": 4})
    write_arc(folder / "arc", 4)
    write_rows(folder / "hellaswag.jsonl", hellaswag_rows(4))
    write_rows(folder / "own.jsonl", [{"question": f"Is it {n}?", "choices": ["yes", "no"], "answer": n % 2} for n in range(4)])
    write_rows(folder / "texts.jsonl", [{"text": f"a text, the {n}th"} for n in range(4)])
    write_vit(folder / "vit"), write_clip(folder / "clip")
    write_rendered(tiny().data.sources["read"], "read", 0, 4, folder / "ocr")
    return folder


ARGUMENTS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "mmlu": lambda at: ("--data", at / "mmlu", "--shots", 1),
    "arc-easy": lambda at: ("--data", at / "arc"),
    "arc-challenge": lambda at: ("--data", at / "arc/ARC-Easy/test.jsonl"),
    "hellaswag": lambda at: ("--data", at / "hellaswag.jsonl"),
    "multiple-choice": lambda at: ("--data", at / "own.jsonl"),
    "ocrbench": lambda at: ("--data", at / "ocr", "--set", "ocrbench.max_new_tokens=4"),
    "rendered-ocr": lambda at: (),
    "bits-per-byte": lambda at: ("--data", at / "texts.jsonl"),
    "drawn-text": lambda at: (),
    "image-distance": lambda at: ("--set", f"image-distance.extractor={at / 'vit'}"),
    "clip-score": lambda at: ("--set", f"clip-score.clip={at / 'clip'}"),
}


def check_complete(result: dict[str, Any], engine: str = "native") -> None:
    """A result file tells how, with what and when it was measured."""
    protocol, circumstances, model = result["protocol"], result["circumstances"], result["model"]
    assert protocol["engine"] == engine
    assert len(protocol["prompt_sha256"]) == 64
    assert protocol["dtype"] == "float32"
    assert {"shots", "limit", "seed"} <= protocol.keys()
    assert isinstance(protocol["shots"], int)
    assert isinstance(result["task_version"], int)
    assert (circumstances["batch_size"], circumstances["device"]) == (2, "cpu")
    assert {"python", "smoe", "torch", "transformers"} <= result["versions"].keys()
    assert "not installed" not in result["versions"].values()
    assert len(result["hashes"]["data"]["sha256"]) == 64
    assert model.keys() >= {"path", "kind", "recipe", "recipe_sha256", "sha256"}
    assert datetime.now(UTC) - datetime.fromisoformat(result["time"]) < timedelta(minutes=5)
    assert result["seconds"] > 0
    assert result["metrics"]


def test_no_task_is_left_out() -> None:
    assert list(ARGUMENTS) == list(TASKS)


@pytest.mark.parametrize("task", list(TASKS))
def test_a_result_file_holds_everything(task: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if task in NEEDS and find_spec(NEEDS[task]) is None:
        pytest.skip(f"{NEEDS[task]} is not installed")
    out = tmp_path / "out.json"

    def measure(*more: object) -> dict[str, Any]:
        asked = ("eval", folder / "run", "--tasks", task, *ARGUMENTS[task](folder), *more)
        code = run([*map(str, asked), "--json", str(out), "--predictions", str(tmp_path / "out.jsonl")])
        assert code == 0, capsys.readouterr().err
        (result,) = json.loads(out.read_text(encoding="utf-8"))
        return dict(result)

    first = measure("--limit", 3, "--batch-size", 2)
    check_complete(first)
    assert first["task"] == task
    assert first["model"]["recipe"] == "tiny"
    assert first["model"]["recipe_sha256"] == sha256(folder / "run/model/smoe.yaml")
    assert first["model"]["sha256"] == hash_weights(build(tiny())[0])
    if task in WITHOUT_ANSWERS:
        assert first["predictions"] is None
    else:
        (answers,) = read_predictions(tmp_path / first["predictions"]).values()
        assert len(answers) == 3

    again = measure("--limit", 3, "--batch-size", 3)
    assert fields(again) == fields(first)  # nothing in it depends on the time, the batch or the machine
    fewer = measure("--limit", 2)
    assert differing(fields(first), fields(fewer))
    assert fewer["protocol"]["prompt_sha256"] != first["protocol"]["prompt_sha256"]
    if "seed" in TASKS[task].words.model_fields:
        other = measure("--limit", 3, "--set", f"{task}.seed=1")
        assert (first["protocol"]["seed"], other["protocol"]["seed"]) == (0, 1)


def test_runs_of_several_seeds_answer_the_same_questions() -> None:
    task = RenderedOcr(task="rendered-ocr", source="read", questions=3)
    asked = [fields(evaluate(OpenModel(*build(tiny(seed=seed))), [task])[0].to_dict()) for seed in (0, 1)]
    assert asked[0] == asked[1]


def test_what_must_be_equal_does_not_depend_on_the_model(folder: Path) -> None:
    """Another model with another tokenizer, of which `bits-per-byte` takes the eos, may share every column."""
    tasks = [
        Mmlu(task="mmlu", data=str(folder / "mmlu"), shots=2),
        ArcEasy(task="arc-easy", data=str(folder / "arc")),
        BitsPerByte(task="bits-per-byte", data=str(folder / "texts.jsonl"), window=16),
    ]
    without_bos = byte_tokenizer()
    without_bos.bos_token = None

    def asked(opened: OpenModel) -> list[dict[str, str]]:
        results: list[Result] = evaluate(opened, tasks)
        return [fields(result.to_dict()) for result in results]

    assert asked(OpenModel(*build(tiny()))) == asked(OpenModel(tiny_qwen2_moe(seed=1), without_bos))

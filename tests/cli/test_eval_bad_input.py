"""What `smoe eval`, `compare` and `report` say of input that they cannot use: file, place and remedy; nothing is written."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smoe_cli.cli.main import run
from tests.eval.compare.test_compare import result, save
from tests.eval.folders import write_run
from tests.eval.tiny import arc_rows, byte_tokenizer, mmlu_rows, tiny_qwen2_moe
from tests.helpers import tiny
from tests.report import synthetic

Refused = Callable[..., str]
OWN = [{"question": "Which?", "choices": ["a", "b", "c"], "answer": 1}] * 2
ENDINGS = [{"activity_label": "X", "ctx_a": "One", "ctx_b": "two", "endings": ["a", "b", "c", "d"], "label": "1"}] * 2
OCR = {"dataset": "svt", "question": "What?", "question_type": "Doc-oriented VQA", "answer": ["x"], "image": "a.png"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "mmlu": [{**row, "subject": "anatomy"} for row in mmlu_rows("anatomy", "test", 2)],
    "arc-easy": arc_rows(2),
    "hellaswag": ENDINGS,
    "multiple-choice": OWN,
    "ocrbench": [OCR] * 2,
    "bits-per-byte": [{"text": "some words"}] * 2,
}
"""Two good rows of each task that reads a file."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of ours, and a plain causal language model."""
    folder = tmp_path_factory.mktemp("models")
    tiny_qwen2_moe().save_pretrained(folder / "plain")
    byte_tokenizer().save_pretrained(folder / "plain")
    recipe = tiny(evaluation={"tasks": [{"task": "rendered-ocr", "source": "read", "questions": 2}]})
    return {"plain": folder / "plain", "run": write_run(folder / "run", recipe)}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command line that must be refused, with nothing written; what it says."""

    def refused(*arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        code = run([str(one) for one in arguments])
        shown = capsys.readouterr()
        assert code == 2, shown.err
        assert shown.out == ""
        assert "Traceback" not in shown.err
        message = shown.err[shown.err.index("error: ") :]  # after the progress bars of transformers
        assert "\n  help: " in message
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return message

    return refused


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A data file, in the format that its name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
    return path


def measure(refused: Refused, model: Path, task: str, data: Path, *more: object) -> str:
    """Refuses to measure; asked to write into the folder of the data."""
    out = data.parent / "out"
    return refused(
        *("eval", model, "--tasks", task, "--data", data, "--json", f"{out}.json", "--predictions", f"{out}.jsonl", *more)
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize(
    ("task", "column"),
    [
        ("mmlu", "question"),
        ("mmlu", "choices"),
        ("mmlu", "answer"),
        ("mmlu", "subject"),
        ("arc-easy", "answerKey"),
        ("hellaswag", "endings"),
        ("multiple-choice", "answer"),
        ("ocrbench", "dataset"),
        ("ocrbench", "image"),
        ("bits-per-byte", "text"),
    ],
)
def test_a_missing_column(
    models: dict[str, Path], tmp_path: Path, refused: Refused, task: str, column: str, suffix: str
) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    rows = [{"other": 1} | {key: value for key, value in row.items() if key != column} for row in ROWS[task]]
    file = write(tmp_path / f"data{suffix}", rows)
    said = measure(refused, models["run"], task, file, *(("--shots", 0) if task == "mmlu" else ()))
    assert str(file) in said
    assert "row 1" in said
    assert column in said
    assert "other" in said  # the columns that there are


def test_a_csv_with_too_few_cells(models: dict[str, Path], tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "test" / "anatomy_test.csv"
    file.parent.mkdir()
    file.write_text("Which?,a,b,c,d,A\nWhich?,a,b,c,A\n", encoding="utf-8")
    said = refused("eval", models["plain"], "--tasks", "mmlu", "--data", tmp_path, "--shots", 0)
    assert f"error: {file}:2: 5 cells, expected 6 (question, A, B, C, D, answer)" in said


@pytest.mark.parametrize(
    ("task", "column", "value", "words"),
    [
        ("mmlu", "answer", 4, "`answer` is 4, expected 0–3 or A–D"),
        ("mmlu", "answer", -1, "`answer` is -1, expected 0–3 or A–D"),
        ("mmlu", "answer", "E", "`answer` is 'E', expected 0–3 or A–D"),
        ("mmlu", "answer", True, "`answer` is True, expected 0–3 or A–D"),
        ("mmlu", "answer", None, "`answer` is None, expected 0–3 or A–D"),
        ("arc-easy", "answerKey", "Z", "`answerKey` is 'Z', the labels are "),
        ("hellaswag", "label", "4", "`label` is '4', expected 0–3"),
        ("multiple-choice", "answer", 3, "`answer` is 3, expected 0–2"),
        ("multiple-choice", "answer", "D", "`answer` is 'D', expected one of the 3 choices"),
        ("ocrbench", "answer", [], "`answer` is an empty list"),
    ],
)
def test_a_wrong_answer(
    models: dict[str, Path], tmp_path: Path, refused: Refused, task: str, column: str, value: object, words: str
) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    file = write(tmp_path / "data.jsonl", [ROWS[task][0], ROWS[task][1] | {column: value}])
    said = measure(refused, models["run"], task, file, *(("--shots", 0) if task == "mmlu" else ()))
    assert f"error: {file}: row 2: {words}" in said


@pytest.mark.parametrize("how", ["text", "cut", "nothing", "bytes", "gone", "folder"])
def test_an_image_that_does_not_decode(models: dict[str, Path], tmp_path: Path, refused: Refused, how: str) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    Image.radial_gradient("L").save(good)
    rows: list[dict[str, Any]] = [OCR, OCR | {"image": "b.png"}]
    if how == "bytes":
        rows = [OCR | {"image": {"bytes": good.read_bytes()}}, OCR | {"image": {"bytes": b"\x89PNG and no more"}}]
    elif how == "folder":
        bad.mkdir()
    elif how != "gone":
        bad.write_bytes({"text": b"an image", "cut": good.read_bytes()[:200], "nothing": b""}[how])
    file = write(tmp_path / ("data.parquet" if how == "bytes" else "data.jsonl"), rows)
    said = measure(refused, models["run"], "ocrbench", file)
    assert f"error: {file}: row 2: " in said
    assert ("b.png" in said) is (how != "bytes")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".arrow", ".txt"])
@pytest.mark.parametrize("task", ["mmlu", "multiple-choice", "ocrbench", "bits-per-byte"])
def test_an_empty_file(models: dict[str, Path], tmp_path: Path, refused: Refused, task: str, suffix: str) -> None:
    file = tmp_path / f"data{suffix}"
    file.touch()
    assert str(file) in measure(refused, models["run"], task, file)


@pytest.mark.parametrize("task", list(ROWS))
def test_a_file_without_rows(models: dict[str, Path], tmp_path: Path, refused: Refused, task: str) -> None:
    for name, text in (("data.csv", "question,A,B,C,D,answer,subject\n"), ("data.json", "[]"), ("data.jsonl", "\n\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        said = measure(refused, models["run"], task, tmp_path / name)
        assert str(tmp_path / name) in said
        assert "no rows" in said


@pytest.mark.parametrize("task", ["mmlu", "arc-easy", "multiple-choice", "ocrbench"])
def test_an_empty_folder_and_none(models: dict[str, Path], tmp_path: Path, refused: Refused, task: str) -> None:
    (tmp_path / "empty").mkdir()
    assert f"error: {tmp_path / 'empty'}: " in measure(refused, models["run"], task, tmp_path / "empty")
    assert f"error: {tmp_path / 'nowhere'}: no such file" in measure(refused, models["run"], task, tmp_path / "nowhere")


@pytest.mark.parametrize("task", ["mmlu", "multiple-choice", "ocrbench"])
def test_lines_that_are_not_json(models: dict[str, Path], tmp_path: Path, refused: Refused, task: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps(ROWS["mmlu"][0]) + '\n{"question": \n', encoding="utf-8")
    if task != "ocrbench":  # its first row already lacks a column
        assert f"error: {file}:2:" in measure(refused, models["run"], task, file, *(("--shots", 0) if task == "mmlu" else ()))
    file.write_text("[1, 2]\n", encoding="utf-8")
    assert f"error: {file}: row 1: expected a mapping" in measure(refused, models["run"], task, file)


@pytest.mark.parametrize("kind", ["plain", "run"])
def test_a_model_without_its_tokenizer(models: dict[str, Path], tmp_path: Path, refused: Refused, kind: str) -> None:
    folder = tmp_path / kind
    shutil.copytree(models[kind], folder)
    model = folder if kind == "plain" else folder / "model"
    for file in model.glob("*token*"):
        file.unlink()
    said = measure(refused, folder, "mmlu", write(tmp_path / "data.jsonl", ROWS["mmlu"]), "--shots", 0)
    assert f"error: {model}" in said
    assert "tokenizer" in said


@pytest.mark.parametrize(
    ("arguments", "place", "remedy"),
    [
        (("--tasks", "mlmu"), "--tasks: no task `mlmu`", "did you mean `mmlu`?"),
        (("--tasks", "mmlu,ocr-bench"), "--tasks: no task `ocr-bench`", "did you mean `ocrbench`?"),
        (("--tasks", "something"), "--tasks: no task `something`", "tasks: `mmlu`, `arc-easy`"),
        (("--tasks", ","), "--tasks is empty", "tasks: mmlu, "),
        (("--tasks", "mmlu", "--data", "mlmu=x"), "--data: no task `mlmu`", "did you mean `mmlu`?"),
        (("--tasks", "mmlu", "--set", "mlmu.shots=1"), "task `mlmu` is not among those asked for", "did you mean `mmlu`?"),
    ],
)
def test_a_typo_in_the_name_of_a_task(
    models: dict[str, Path], refused: Refused, arguments: tuple[str, ...], place: str, remedy: str
) -> None:
    said = refused("eval", models["run"], *arguments)
    assert place in said
    assert f"help: {remedy}" in said


def test_a_typo_in_the_task_of_answers_to_score_again(tmp_path: Path, refused: Refused) -> None:
    file = write(tmp_path / "answers.jsonl", [OCR | {"prediction": "x"}])
    assert "did you mean `ocrbench`?" in refused("eval", "--rescore", file, "--tasks", "ocrbnch")
    assert f"{tmp_path / 'nowhere.jsonl'}: no such file" in refused(
        "eval", "--rescore", tmp_path / "nowhere.jsonl", "--tasks", "ocrbench"
    )
    no_answers = write(tmp_path / "no.jsonl", [OCR])
    assert f"error: {no_answers}: row 1: no column `prediction`" in refused(
        "eval", "--rescore", no_answers, "--tasks", "ocrbench"
    )


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ({"format": 3}, "a result of format 3, written by a newer smoe; this one reads up to 2", "upgrade smoe"),
        ({"format": 1}, "not a result of `smoe eval` in format 2", "measure again"),
        ({"metrics": {}}, "not a result of `smoe eval`: `metrics` is missing or damaged", "measure again"),
        ({"protocol": None}, "not a result of `smoe eval`: `protocol` is missing or damaged", "measure again"),
    ],
)
def test_results_of_another_version(
    models: dict[str, Path], tmp_path: Path, refused: Refused, change: dict[str, Any], words: str, remedy: str
) -> None:
    good, other = save(tmp_path / "good.json", result()), save(tmp_path / "other.json", result())
    other.write_text(json.dumps(json.loads(other.read_text(encoding="utf-8")) | change), encoding="utf-8")
    said = refused("compare", good, other)
    assert f"error: {other}: {words}" in said
    assert remedy in said
    (tmp_path / "run" / "eval").mkdir(parents=True)
    moved = other.rename(tmp_path / "run" / "eval" / "mmlu.json")
    assert f"error: {moved}: {words}" in refused("compare", good, tmp_path / "run")


def test_a_report_leaves_out_results_of_a_newer_version_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = synthetic.write_run(tmp_path / "run")
    file = sorted((folder / "eval").glob("*.json"))[0]
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"format": 3}), encoding="utf-8")
    assert run(["report", str(folder), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    said = f"eval/{file.name}: a result of format 3, written by a newer smoe"
    assert said in page
    assert f"the report lacks: {said}" in capsys.readouterr().err


def test_results_that_are_no_json(tmp_path: Path, refused: Refused) -> None:
    good, bad = save(tmp_path / "good.json", result()), tmp_path / "bad.json"
    for content in (b"", b"{", b"\xff\xfe", b"[]", b"[1]", b'"text"'):
        bad.write_bytes(content)
        assert f"error: {bad}: " in refused("compare", good, bad)

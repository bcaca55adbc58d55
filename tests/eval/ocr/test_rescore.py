"""Scoring answers again gives what the run that wrote them found, and reads what other kits write."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.data import load_ocr
from smoe_cli.eval.ocr.ocrbench import evaluate_ocr
from smoe_cli.eval.ocr.rescore import rescore
from smoe_cli.eval.predictions import Prediction, read_predictions, write_predictions
from smoe_cli.eval.results import Result, check_result
from smoe_cli.files import sha256
from tests.eval.ocr.test_data import write as write_data
from tests.eval.ocr.test_ocrbench import DATA, Parrot, full_set, how, question


def found(result: Result) -> tuple[Any, ...]:
    """What a result says of the answers."""
    return result.task, result.name, result.version, result.metrics, result.groups, result.subgroups, result.predictions


FULLWIDTH = question(6, "ＣＥＮＴＲＥ　１", ("centre 1",), "Scene Text-centric VQA", "textVQA")


@pytest.mark.parametrize("fold", [False, True])
def test_equals_the_run_that_wrote_the_file(tmp_path: Path, fold: bool) -> None:
    data = type(DATA)((*DATA.questions, FULLWIDTH, FULLWIDTH), DATA.files)
    ran = evaluate_ocr(Parrot(), data, "ocrbench", how(fold_fullwidth=fold))
    write_predictions(tmp_path / "p.jsonl", {"ocrbench": ran.predictions})
    again = rescore(tmp_path / "p.jsonl", "ocrbench", fold)
    assert found(again) == found(ran)
    assert ran.main.count is not None
    assert ran.main.count.correct == 3 + 2 * fold
    # and written once more, it is the same file
    write_predictions(tmp_path / "q.jsonl", {"ocrbench": again.predictions})
    assert (tmp_path / "q.jsonl").read_bytes() == (tmp_path / "p.jsonl").read_bytes()
    assert read_predictions(tmp_path / "q.jsonl")["ocrbench"] == list(ran.predictions)


def test_the_rules_may_be_changed_afterwards(tmp_path: Path) -> None:
    data = type(DATA)((FULLWIDTH, *DATA.questions), DATA.files)
    plain, folded = (evaluate_ocr(Parrot(), data, "ocrbench", how(fold_fullwidth=fold)) for fold in (False, True))
    assert found(plain) != found(folded)
    write_predictions(tmp_path / "p.jsonl", {"ocrbench": plain.predictions})
    assert found(rescore(tmp_path / "p.jsonl", "ocrbench", fold_fullwidth=True)) == found(folded)


def test_the_full_set(tmp_path: Path) -> None:
    ran = evaluate_ocr(Parrot(), load_ocr(write_data(tmp_path / "full.parquet", full_set())), "ocrbench", how(), 100)
    write_predictions(tmp_path / "p.jsonl", {"ocrbench": ran.predictions})
    again = rescore(tmp_path / "p.jsonl", "ocrbench")
    assert found(again) == found(ran)
    assert [warning for warning in again.warnings if "full set" in warning] == []
    write_predictions(tmp_path / "p.jsonl", {"ocrbench": ran.predictions[1:]})
    assert rescore(tmp_path / "p.jsonl", "ocrbench").warnings[0].startswith("not OCRBench's full set: 999 of 1000 questions (")


def test_what_is_unknown_is_null_and_where_it_comes_from_is_said(tmp_path: Path) -> None:
    ran = evaluate_ocr(Parrot(), DATA, "ocrbench", how(suffix="!"))
    file = tmp_path / "p.jsonl"
    write_predictions(file, {"ocrbench": ran.predictions})
    result = rescore(file, "ocrbench", fold_fullwidth=True)
    known = {key: value for key, value in result.protocol.items() if value is not None}
    same = {key: ran.protocol[key] for key in ("questions_sha256", "score")}
    assert known == {"engine": "rescored", "fold_fullwidth": True, **same}
    assert set(ran.protocol) < set(result.protocol)  # `evaluate` adds engine, dtype and seed to a run's
    assert result.hashes["predictions"]["files"] == 1
    assert (result.model["kind"], result.model["path"], result.model["sha256"]) == ("predictions", str(file), None)
    assert sorted(result.versions) == ["python", "smoe"]
    assert result.time
    assert any("is unknown" in warning for warning in result.warnings)
    check_result(json.loads(json.dumps(result.to_dict())), "here")
    before = result.hashes
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert sha256(file)
    assert rescore(file, "ocrbench").hashes != before


def row(**change: Any) -> dict[str, Any]:
    return {
        "dataset": "docVQA",
        "question_type": "Doc-oriented VQA",
        "question": "How many?",
        "answer": "42",
        "prediction": "It is 42.",
    } | change


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as the suffix says."""
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as lines:
            table = csv.DictWriter(lines, rows[0])
            table.writeheader()
            table.writerows(rows)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return file


ROWS = [row(), row(answer="43", prediction=""), row(prediction='"forty-two",\nor 42')]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.parquet"])
def test_files_of_other_kits(tmp_path: Path, name: str) -> None:
    result = rescore(write(tmp_path / name, ROWS), "ocrbench")
    assert [prediction.correct for prediction in result.predictions] == [True, False, True]
    assert result.groups == {"Doc-oriented VQA": result.main.count}


@pytest.mark.parametrize("order", [("dataset", "question"), ("question", "dataset"), ("prediction", "question")])
def test_columns_of_a_csv_file_stand_in_any_order(tmp_path: Path, order: tuple[str, ...]) -> None:
    rows = [{key: one[key] for key in (*order, *(key for key in one if key not in order))} for one in ROWS]
    assert found(rescore(write(tmp_path / "p.csv", rows), "ocrbench")) == found(
        rescore(write(tmp_path / "p.json", ROWS), "ocrbench")
    )


@pytest.mark.parametrize("change", [{"answer": 42}, {"answer": ["x", 42]}, {"answer": "['42', 'x']"}, {"answers": ["42"]}])
def test_answers_of_other_kits(tmp_path: Path, change: dict[str, Any]) -> None:
    one = row(**change)
    if "answers" in change:
        del one["answer"]
    assert rescore(write(tmp_path / "p.jsonl", [one]), "ocrbench").predictions[0].correct


def test_the_benchmark_s_own_file_with_answers(tmp_path: Path) -> None:
    """Its script adds `predict` to the rows of OCRBench.json; images are not looked for."""
    own = {
        "dataset_name": "HME100k",
        "type": "Handwritten Mathematical Expression Recognition",
        "question": "Write it in LaTeX.",
        "answers": ["x+1"],
        "image_path": "gone.jpg",
        "id": 7,
        "predict": "$x + 1$",
    }
    result = rescore(write(tmp_path / "OCRBench.json", [own]), "ocrbench")
    assert (result.name, result.predictions[0].correct) == ("ocrbench", True)


def test_the_same_questions_pair_whatever_their_order(tmp_path: Path) -> None:
    ran = evaluate_ocr(Parrot(), DATA, "ocrbench", how())
    rows = [dict(one.facts) | {"prediction": "another"} for one in reversed(ran.predictions)]
    other = rescore(write(tmp_path / "p.jsonl", rows), "ocrbench")
    assert {one.id for one in other.predictions} == {one.id for one in ran.predictions}
    assert other.protocol["questions_sha256"] == ran.protocol["questions_sha256"]
    fewer = rescore(write(tmp_path / "p.jsonl", rows[1:]), "ocrbench")
    assert fewer.protocol["questions_sha256"] != ran.protocol["questions_sha256"]


def test_of_several_tasks_only_the_one_asked_for(tmp_path: Path) -> None:
    ran = evaluate_ocr(Parrot(), DATA, "ocrbench", how())
    others = [Prediction(str(index), correct=True, facts={"chosen": 1}) for index in range(3)]
    file = tmp_path / "p.jsonl"
    write_predictions(file, {"mmlu": others, "ocrbench": ran.predictions, "arc-easy": others[:1]})
    result = rescore(file, "ocrbench")
    assert found(result) == found(ran)
    assert result.warnings[-1] == "left out 4 lines of other tasks (mmlu 3, arc-easy 1)"
    with pytest.raises(UserError) as caught:
        rescore(file, "rendered-ocr")
    assert (
        str(caught.value) == f"{file}: no answers to task `rendered-ocr`\n  help: tasks of this file: mmlu, ocrbench, arc-easy"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": None}, "`prediction` is not a text"),
        ({"prediction": 42}, "`prediction` is not a text"),
        ({"prediction": ["42"]}, "`prediction` is not a text"),
        ({"prediction": "\ud800"}, "`prediction` is not a text"),
        ({"answer": []}, "`answer` is an empty list"),
        ({"answer": ""}, "`answer` is empty"),
        ({"answer": None}, "`answer` is None, expected a text, a number or a list of them"),
        ({"dataset": None}, "`dataset` is not a text"),
    ],
)
def test_bad_rows_name_file_and_row(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "p.jsonl", [row(), row(**change)])
    with pytest.raises(UserError) as caught:
        rescore(file, "ocrbench")
    assert caught.value.message == f"{file}: row 2: {message}"


@pytest.mark.parametrize("column", ["dataset", "question_type", "question", "answer", "prediction"])
@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet"])
def test_a_missing_column_names_those_that_are_there(tmp_path: Path, column: str, name: str) -> None:
    file = write(tmp_path / name, [{key: value for key, value in row().items() if key != column}])
    with pytest.raises(UserError) as caught:
        rescore(file, "ocrbench")
    if (name, column) == ("p.csv", "question"):  # read as MMLU's files, which have no header
        assert "4 cells, expected 6 (question, " in caught.value.message
        return
    assert caught.value.message == f"{file}: row 1: no column `{column}`"
    assert caught.value.help == f"columns of this file: {', '.join(key for key in row() if key != column)}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", "", "no rows"),
        ("p.json", "[]", "no rows"),
        ("p.json", "{}", "expected a list of rows, found dict"),
        ("p.jsonl", "{", "not JSON"),
        ("p.jsonl", "3", "expected a mapping of columns, found int"),
        ("p.txt", "", "no reader for `.txt` files"),
        ("p.parquet", "x", "cannot be read as parquet"),
    ],
)
def test_files_that_hold_no_answers(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=str(tmp_path / name)) as caught:
        rescore(tmp_path / name, "ocrbench")
    assert message in caught.value.message


def test_no_file_and_other_tasks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        rescore(tmp_path / "nowhere.jsonl", "ocrbench")
    with pytest.raises(UserError, match="task `mmlu` cannot be scored again") as caught:
        rescore(write(tmp_path / "p.jsonl", [row()]), "mmlu")
    assert caught.value.help == "tasks: ocrbench, rendered-ocr"


def test_two_columns_of_answers_that_differ(tmp_path: Path) -> None:
    line = {"dataset": "svt", "question_type": "Doc-oriented VQA", "question": "?", "answers": ["a"], "prediction": "b"}
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({**line, "answer": "b"}), encoding="utf-8")
    with pytest.raises(UserError, match="row 1: `answer` and `answers` differ"):
        rescore(file, "ocrbench")
    file.write_text(json.dumps({**line, "answer": ["a"]}), encoding="utf-8")
    assert rescore(file, "ocrbench").main.value == 0.0

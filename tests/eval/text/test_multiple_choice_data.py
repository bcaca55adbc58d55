"""Files of multiple-choice questions: layouts, and what is said of bad rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.tables import Row
from smoe_cli.eval.text.multiple_choice import BENCHMARKS
from smoe_cli.eval.text.multiple_choice_data import (
    Question,
    Questions,
    load_questions,
    parse_arc,
    parse_hellaswag,
    parse_own,
)
from smoe_cli.recipe.measures import ArcEasy, HellaSwag
from tests.eval.tiny import arc_rows, hellaswag_rows, write_arc

ARC, HELLASWAG = BENCHMARKS[ArcEasy].layout, BENCHMARKS[HellaSwag].layout


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def load_own(file: Path) -> Questions:
    return load_questions(file, None, parse_own)


@pytest.mark.parametrize("layout", ["hub", "subset", "parquet file", "jsonl file", "arrow"])
def test_layouts_of_arc(layout: str, tmp_path: Path) -> None:
    rows = arc_rows(5)
    folder = tmp_path / "ARC-Easy"
    folder.mkdir()
    table = pa.Table.from_pylist(rows)
    path: Path = tmp_path
    if layout in ("hub", "subset", "parquet file"):
        pq.write_table(table, folder / "test-00000-of-00001.parquet")
        path = {"hub": tmp_path, "subset": folder, "parquet file": folder / "test-00000-of-00001.parquet"}[layout]
    elif layout == "jsonl file":
        path = write(tmp_path / "mine.jsonl", rows)
    else:
        (folder / "test").mkdir()
        with (
            pa.OSFile(str(folder / "test" / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    data = load_questions(path, ARC, parse_arc)
    assert [(q.id, q.text, list(q.choices), q.answer) for q in data.questions] == [
        (r["id"], r["question"], r["choices"]["text"], r["choices"]["label"].index(r["answerKey"])) for r in rows
    ]
    assert data.split == (None if "file" in layout else "test")


def test_layout_of_hellaswag(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, rows in enumerate((hellaswag_rows(3), hellaswag_rows(2))):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"validation-0000{number}-of-00002.parquet")
    data = load_questions(tmp_path, HELLASWAG, parse_hellaswag)
    assert [question.id for question in data.questions] == ["0", "1", "2", "3", "4"]
    assert data.questions[0] == data.questions[3].__class__(**{**vars(data.questions[3]), "id": "0"})


def test_splits(tmp_path: Path) -> None:
    folder = write_arc(tmp_path / "arc", 4, "train")
    with pytest.raises(UserError) as caught:
        load_questions(folder, ARC, parse_arc)
    assert "no `test` split" in caught.value.message
    assert "it has train: set `split`" in str(caught.value.help)
    data = load_questions(folder, ARC, parse_arc, "train")
    assert (len(data.questions), data.split) == (4, "train")
    with pytest.raises(UserError, match="this is a file"):
        load_questions(data.files[0], ARC, parse_arc, "train")
    with pytest.raises(UserError, match="no such file or folder") as caught:
        load_questions(tmp_path / "nowhere", ARC, parse_arc)
    assert "`allenai/ai2_arc`" in str(caught.value.help)


def test_one_s_own_questions_come_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder"):
        load_own(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load_own(tmp_path / "none.csv")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"empty\.jsonl: no rows"):
        load_own(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"choices": ["x", "y", "z"], "answer": 2}, 2),
        ({"choices": ["x", "y", "z"], "answer": "2"}, 2),
        ({"choices": ["x", "y", "z"], "answer": "B"}, 1),
        ({"choices": ["x", "y", "z"], "answer": " z "}, 2),
        ({"A": "x", "B": "y", "C": "", "D": None, "answer": "B"}, 1),
        ({"A": "B", "B": "A"} | {"answer": 1}, 1),
        ({"choices": ["1", "0"], "answer": "A"}, 0),
        ({"choices": ["same", "same"], "answer": "B"}, 1),
    ],
)
def test_answers_of_one_s_own(values: dict[str, Any], answer: int, tmp_path: Path) -> None:
    assert parse_own(Row(tmp_path, 1, {"question": "?", **values})).answer == answer


def test_original_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"Which, of these?",None,NA,c,d,B\n', encoding="utf-8")
    assert load_own(tmp_path / "a.csv").questions == (Question("0", "Which, of these?", ("None", "NA", "c", "d"), 1),)


OWN = {"question": "?", "choices": ["x", "y"], "answer": 0}
SWAG = hellaswag_rows(1)[0]
ROW = arc_rows(1)[0]


@pytest.mark.parametrize(
    ("parse", "base", "change", "message"),
    [
        (parse_arc, ROW, {"answerKey": "E"}, "`answerKey` is 'E', the labels are A, B, C"),
        (parse_arc, ROW, {"choices": ["a", "b"]}, "`choices` is not a mapping of `text` and `label`"),
        (parse_arc, ROW, {"choices": {"text": ["a"], "label": ["A"]}}, "`choices.text` has 1 text(s), expected 2–26"),
        (parse_arc, ROW, {"choices": {"text": ["a", "b", "c"], "label": ["A", "B"]}}, "`choices` has 3 texts and 2 labels"),
        (parse_arc, ROW, {"choices": {"text": ["a", 3], "label": ["A", "B"]}}, "`choices.text` is not a list of texts"),
        (parse_arc, ROW, {"choices": {"text": ["a", ""], "label": ["A", "B"]}}, "`choices.text` has an empty text"),
        (parse_arc, ROW, {"question": None}, "`question` is not a text"),
        (parse_hellaswag, SWAG, {"label": "4"}, "`label` is '4', expected 0–3"),
        (parse_hellaswag, SWAG, {"label": ""}, "no `label`"),
        (parse_hellaswag, SWAG, {"endings": ["a", "[b]"]}, "an ending is empty"),
        (parse_hellaswag, SWAG, {"ctx_b": 3}, "`ctx_b` is not a text"),
        (parse_own, OWN, {"answer": 2}, "`answer` is 2, expected 0–1"),
        (parse_own, OWN, {"answer": True}, "`answer` is True, expected 0–1"),
        (parse_own, OWN, {"answer": -1}, "`answer` is -1, expected 0–1"),
        (parse_own, OWN, {"answer": 0.5}, "`answer` is 0.5, expected 0–1"),
        (parse_own, OWN, {"answer": "C"}, "`answer` is 'C', expected one of the 2 choices"),
        (parse_own, OWN, {"choices": ["1", "0"], "answer": "1"}, "`answer` is '1', which may mean the choices A and B"),
        (parse_own, OWN, {"choices": ["B", "c"], "answer": "B"}, "`answer` is 'B', which may mean the choices A and B"),
        (parse_own, OWN, {"choices": ["x", "x"], "answer": "x"}, "`answer` is 'x', which may mean the choices A and B"),
        (parse_own, OWN, {"choices": ["x"]}, "`choices` has 1 text(s), expected 2–26"),
        (parse_own, OWN, {"A": "x", "B": "", "C": "z"}, "`A, B, …` has an empty text"),
        (parse_own, OWN, {"question": " "}, "`question` is empty"),
    ],
)
def test_a_bad_row_is_named(
    parse: Callable[[Row], Question], base: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "bad.jsonl", [base | {"id": "first"}, base | change])
    with pytest.raises(UserError) as caught:
        load_questions(file, None, parse)
    assert caught.value.message == f"{file}: row 2: {message}"


@pytest.mark.parametrize("column", ["question", "choices", "answer"])
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", [{key: value for key, value in OWN.items() if key != column}])
    with pytest.raises(UserError) as caught:
        load_own(file)
    assert caught.value.message == f"{file}: row 1: no column `{column}`"
    assert "columns of this file: " in str(caught.value.help)


def test_two_questions_of_one_id(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 2: `id` is 'q', as of a row before it"):
        load_own(write(tmp_path / "mine.jsonl", [{"id": "q", **OWN}] * 2))


def test_ids_that_are_missing_or_no_text(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    rows = [{"question": "?", "choices": ["a", "b"], "answer": 0, "id": name} for name in (None, "", 7)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [one.id for one in load_questions(file, None, parse_own).questions] == ["0", "1", "7"]
    file.write_text(json.dumps(rows[0] | {"id": "\ud800"}), encoding="utf-8")
    with pytest.raises(UserError, match="row 1: `id` is not a text"):
        load_questions(file, None, parse_own)


def test_integers_that_a_library_stored_as_floats() -> None:
    """As pandas does with a column of which one row has no value."""
    assert parse_own(Row(Path("mine.parquet"), 1, {**OWN, "answer": 1.0})).answer == 1

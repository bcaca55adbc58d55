from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.mmlu_data import Question, load_mmlu
from smoe_cli.eval.mmlu_subjects import CATEGORY, SUBJECTS

from .tiny import mmlu_rows, write_mmlu

QUESTION = {"question": "q", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}


def test_subjects() -> None:
    assert len(SUBJECTS) == 57
    assert Counter(CATEGORY.values()) == {"stem": 19, "other": 13, "social_sciences": 12, "humanities": 13}


def write_split(folder: Path, split: str, rows: list[dict], layout: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "hub":  # two shards, as the hub writes them
        table = pa.Table.from_pylist(rows)
        pq.write_table(table.slice(0, 2), folder / f"{split}-00000-of-00002.parquet")
        pq.write_table(table.slice(2), folder / f"{split}-00001-of-00002.parquet")
    elif layout == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    elif layout == "arrow":
        (folder / split).mkdir()
        table, file = pa.Table.from_pylist(rows), folder / split / "data-00000-of-00001.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    elif layout == "jsonl":
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in rows)


@pytest.mark.parametrize("layout", ["hub", "parquet", "arrow", "jsonl", "csv"])
def test_every_layout_gives_the_same_questions(tmp_path: Path, layout: str) -> None:
    for subject in ("anatomy", "virology"):
        for split in ("dev", "test"):
            write_split(tmp_path / subject, split, mmlu_rows(subject, split, 5), layout)
    (tmp_path / "all").mkdir()
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")
    data = load_mmlu(tmp_path, shots=5)
    assert [subject.name for subject in data.subjects] == ["anatomy", "virology"]
    for subject in data.subjects:
        for split, questions in (("dev", subject.dev), ("test", subject.test)):
            rows = mmlu_rows(subject.name, split, 5)
            assert list(questions) == [Question(row["question"], tuple(row["choices"]), row["answer"]) for row in rows]
    assert len(data.files) == (8 if layout == "hub" else 4)


def test_one_table_with_a_subject_column(tmp_path: Path) -> None:
    for split in ("dev", "test"):
        rows = [row for subject in ("virology", "anatomy") for row in mmlu_rows(subject, split, 3)]
        write_split(tmp_path, split, rows, "jsonl")
    data = load_mmlu(tmp_path, shots=3)
    assert [(subject.name, len(subject.dev), len(subject.test)) for subject in data.subjects] == [
        ("anatomy", 3, 3),
        ("virology", 3, 3),
    ]


def test_no_examples_are_needed_for_zero_shots(tmp_path: Path) -> None:
    write_split(tmp_path / "anatomy", "test", [QUESTION], "jsonl")
    assert load_mmlu(tmp_path, shots=0).subjects[0].dev == ()
    with pytest.raises(UserError, match="no `dev` split"):
        load_mmlu(tmp_path, shots=1)


def test_too_few_examples(tmp_path: Path) -> None:
    write_mmlu(tmp_path / "mmlu", {"anatomy": 2})
    with pytest.raises(UserError, match=r"`anatomy` has 5 example\(s\) in its `dev` split, 6 shots asked"):
        load_mmlu(tmp_path / "mmlu", shots=6)


def test_unknown_subject_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_mmlu(tmp_path / "mmlu", {"abstract_algebr": 2})
    with pytest.raises(UserError) as caught:
        load_mmlu(tmp_path / "mmlu", shots=0)
    assert "did you mean `abstract_algebra`?" in str(caught.value)


def test_a_subject_without_questions_is_named(tmp_path: Path) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 2, "virology": 2})
    (folder / "virology" / "test.jsonl").rename(folder / "virology" / "test.tsv")
    (folder / ".cache").mkdir()  # is nobody's subject
    with pytest.raises(UserError, match="virology: no `test` split"):
        load_mmlu(folder, shots=0)


def test_no_questions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MMLU questions found"):
        load_mmlu(tmp_path, shots=0)
    with pytest.raises(UserError, match="no such folder"):
        load_mmlu(tmp_path / "nowhere", shots=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "`question` is not a text"),
        ({"question": "\ud800"}, "`question` is not a text"),
        ({"choices": ["a", "b", "c"]}, "`choices` is not a list of four texts"),
        ({"choices": ["a", "b", "c", None]}, "`choices` is not a list of four texts"),
        ({"choices": "abcd"}, "`choices` is not a list of four texts"),
        ({"answer": 4}, "`answer` is 4, expected 0–3 or A–D"),
        ({"answer": "E"}, "`answer` is 'E', expected 0–3 or A–D"),
        ({"answer": True}, "`answer` is True, expected 0–3 or A–D"),
        ({"answer": None}, "`answer` is None, expected 0–3 or A–D"),
    ],
)
def test_bad_rows_name_file_and_row(tmp_path: Path, change: dict, message: str) -> None:
    write_split(tmp_path / "anatomy", "test", [QUESTION, QUESTION | change], "jsonl")
    with pytest.raises(UserError) as caught:
        load_mmlu(tmp_path, shots=0)
    assert caught.value.message == f"{tmp_path / 'anatomy' / 'test.jsonl'}: row 2: {message}"


def test_missing_column_names_file_and_row(tmp_path: Path) -> None:
    write_split(tmp_path / "anatomy", "test", [{"question": "q", "answer": 1}], "jsonl")
    with pytest.raises(UserError, match=r"test\.jsonl: row 1: no column `choices`"):
        load_mmlu(tmp_path, shots=0)

"""MMLU in every layout in which it is passed around: the same questions from each."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.text.mmlu_data import MmluData, Question, load_mmlu
from smoe_cli.eval.text.mmlu_layouts import split_files
from tests.eval.tiny import mmlu_rows, write_mmlu

SUBJECTS = ("anatomy", "virology")


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
    else:  # csv, of the archive: no header, no column for the subject
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in rows)


def check_questions(data: MmluData, examples: int = 5) -> None:
    """That these are the five examples and five questions of `mmlu_rows`, of both subjects."""
    assert [subject.name for subject in data.subjects] == list(SUBJECTS)
    for subject in data.subjects:
        for split, questions, count in (("dev", subject.dev, examples), ("test", subject.test, 5)):
            rows = mmlu_rows(subject.name, split, 5)[:count]
            assert list(questions) == [Question(row["question"], tuple(row["choices"]), row["answer"]) for row in rows]


@pytest.mark.parametrize("layout", ["hub", "parquet", "arrow", "jsonl", "csv"])
def test_a_folder_for_each_subject(tmp_path: Path, layout: str) -> None:
    for subject in SUBJECTS:
        for split in ("dev", "test", "validation"):
            write_split(tmp_path / subject, split, mmlu_rows(subject, split, 5), layout)
    for other in ("all", "auxiliary_train"):  # the hub's repository has these too, and the subjects' folders come first
        write_split(tmp_path / other, "test", mmlu_rows("anatomy", "test", 3), "hub")
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")
    data = load_mmlu(tmp_path, shots=5)
    check_questions(data)
    assert len(data.files) == (8 if layout == "hub" else 4)
    assert load_mmlu(str(tmp_path), shots=0).files == tuple(file for file in data.files if "dev" not in str(file))


@pytest.mark.parametrize("within", ["", "all"])
@pytest.mark.parametrize("layout", ["hub", "jsonl"])
def test_one_table_with_a_column_of_subjects(tmp_path: Path, within: str, layout: str) -> None:
    for split in ("dev", "test"):
        rows = [row for subject in reversed(SUBJECTS) for row in mmlu_rows(subject, split, 5)]
        write_split(tmp_path / within, split, rows, layout)
    check_questions(load_mmlu(tmp_path, shots=5))
    check_questions(load_mmlu(tmp_path / within, shots=5))


@pytest.mark.parametrize("within", ["", "data"])
def test_the_original_archive(tmp_path: Path, within: str) -> None:
    for split, folder in (("dev", "dev"), ("test", "test"), ("val", "val")):
        for subject in SUBJECTS:
            write_split(tmp_path / within / folder, f"{subject}_{split}", mmlu_rows(subject, split, 5), "csv")
    (tmp_path / within / "possibly_contaminated_urls.txt").write_text("", encoding="utf-8")
    data = load_mmlu(tmp_path, shots=5)
    check_questions(data)
    assert {file.parent.name for file in data.files} == {"dev", "test"}
    write_split(tmp_path / within / "test", "anatomi_test", mmlu_rows("anatomy", "test", 5), "csv")
    with pytest.raises(UserError, match=r"anatomi_test\.csv: `anatomi` is not a subject of MMLU\n.*did you mean `anatomy`"):
        load_mmlu(tmp_path, shots=0)


@pytest.mark.parametrize("layout", ["parquet", "jsonl"])
def test_one_file(tmp_path: Path, layout: str) -> None:
    rows = [
        {**row, "split": split}
        for split in ("test", "validation", "dev")
        for subject in SUBJECTS
        for row in mmlu_rows(subject, split, 5)
    ]
    write_split(tmp_path, "mine", rows, layout)
    data = load_mmlu(tmp_path / f"mine.{layout}", shots=5)
    check_questions(data)
    assert data.files == (tmp_path / f"mine.{layout}",)


def test_one_file_of_questions_alone(tmp_path: Path) -> None:
    write_split(tmp_path, "mine", [row for subject in SUBJECTS for row in mmlu_rows(subject, "test", 5)], "jsonl")
    check_questions(load_mmlu(tmp_path / "mine.jsonl", shots=0), examples=0)
    with pytest.raises(UserError, match=r"subject `anatomy` has 0 example\(s\)"):
        load_mmlu(tmp_path / "mine.jsonl", shots=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": "anatomi"}, r"row 2: `anatomi` is not a subject of MMLU\n.*did you mean `anatomy`"),
        ({"subject": None}, "row 2: `None` is not a subject of MMLU"),
        ({"split": 1}, "row 2: `split` is 1, expected a text"),
    ],
)
def test_bad_rows_of_one_file(tmp_path: Path, change: dict, message: str) -> None:
    first, second = mmlu_rows("anatomy", "test", 2)
    write_split(tmp_path, "mine", [first, {**second, **change}], "jsonl")
    with pytest.raises(UserError, match=message):
        load_mmlu(tmp_path / "mine.jsonl", shots=0)


def test_a_file_without_subjects_or_without_questions(tmp_path: Path) -> None:
    rows = mmlu_rows("anatomy", "test", 2)
    write_split(tmp_path, "none", [{key: row[key] for key in ("question", "choices", "answer")} for row in rows], "jsonl")
    with pytest.raises(UserError, match=r"none\.jsonl: row 1: no column `subject`"):
        load_mmlu(tmp_path / "none.jsonl", shots=0)
    write_split(tmp_path, "dev-only", [{**row, "split": "dev"} for row in rows], "jsonl")
    with pytest.raises(UserError, match=r"dev-only\.jsonl: no row of split `test`"):
        load_mmlu(tmp_path / "dev-only.jsonl", shots=0)


def test_unknown_subject_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_mmlu(tmp_path / "mmlu", {"abstract_algebr": 2})
    with pytest.raises(UserError, match="did you mean `abstract_algebra`"):
        load_mmlu(tmp_path / "mmlu", shots=0)


def test_a_subject_without_questions_is_named(tmp_path: Path) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 2, "virology": 2})
    (folder / "virology" / "test.jsonl").rename(folder / "virology" / "test.tsv")
    (folder / ".cache").mkdir()  # is nobody's subject
    with pytest.raises(UserError, match="virology: no `test` split"):
        load_mmlu(folder, shots=0)


def test_no_questions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MMLU questions found"):
        load_mmlu(tmp_path, shots=0)
    with pytest.raises(UserError, match="no such file or folder"):
        load_mmlu(tmp_path / "nowhere", shots=0)
    assert split_files(tmp_path, "test") == []

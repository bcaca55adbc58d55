from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.tables import read_rows

ROWS = [{"question": "a", "answer": 1, "choices": ["x", "None"]}, {"question": "ü\n", "answer": 2, "choices": ["NA", ""]}]


def write(folder: Path, suffix: str) -> Path:
    file = folder / f"rows{suffix}"
    table = pa.Table.from_pylist(ROWS)
    if suffix == ".parquet":
        pq.write_table(table, file)
    elif suffix == ".arrow":
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    elif suffix == ".jsonl":
        file.write_text("\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    else:
        file.write_text(json.dumps(ROWS), encoding="utf-8")
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".json"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    rows = list(read_rows(write(tmp_path, suffix)))
    assert [row.values for row in rows] == ROWS
    assert [row.number for row in rows] == [1, 2]


def test_csv_keeps_words_that_look_missing_and_takes_a_header_or_none(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('"Which,\nof these?",None,NA,"",nan,B\n', encoding="utf-8")
    values = {"question": "Which,\nof these?", "A": "None", "B": "NA", "C": "", "D": "nan", "answer": "B"}
    assert [row.values for row in read_rows(file)] == [values]
    file.write_text("question,answer\nq,A\n", encoding="utf-8")
    assert [row.values for row in read_rows(file)] == [{"question": "q", "answer": "A"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 but not really", "cannot be read as parquet"),
        ("a.arrow", b"\x00\x01", "cannot be read as arrow"),
        ("a.json", b"{", "cannot be read as json"),
        ("a.json", b"{}", "expected a list of rows, found dict"),
        ("a.json", b"[]", "no rows"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl:2:7: not JSON"),
        ("a.jsonl", b"\n", "no rows"),
        ("a.jsonl", b"[1]\n", "row 1: expected a mapping of columns, found list"),
        ("a.jsonl", b"\xff\xfe", "cannot be read as jsonl"),
        ("a.csv", b"q,a,b,c,d,A\nq,a\n", "a.csv:2: 2 cells, expected 6"),
        ("a.txt", b"x", "no reader for `.txt` files"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_rows(tmp_path / name))
    assert message in caught.value.message
    assert str(tmp_path / name) in caught.value.message


def test_missing_file_and_missing_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(read_rows(tmp_path / "none.jsonl"))
    row = next(iter(read_rows(write(tmp_path, ".jsonl"))))
    with pytest.raises(UserError) as caught:
        row.get("image", "image_path")
    assert caught.value.message.endswith("rows.jsonl: row 1: no column `image`")
    assert "question, answer, choices" in str(caught.value)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_what_is_nested_too_deeply(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match=f"{name}:.*(deep|recursion)"):
        list(read_rows(tmp_path / name))

"""JSON Lines, CSV, JSON and image folders, row by row."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoe_cli.data.sample import BadRow
from smoe_cli.data.tables import Csv, ImageFiles, JsonLines, Table, open_json
from smoe_cli.errors import UserError

from .make import write_csv, write_jsonl

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(), st.none())), max_size=8),
    gap=st.booleans(),
)
def test_jsonl_rows_in_any_order(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], gap: bool) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    rows = [row for row in rows if all(not isinstance(value, str) or value.isprintable() for value in row.values())]
    path.write_text(("\n\n" if gap else "\n").join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    part = JsonLines(path)
    assert len(part) == len(rows)
    assert [part.row(i) for i in reversed(range(len(rows)))] == rows[::-1]


@settings(max_examples=60)
@given(
    rows=st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=8), ending=st.sampled_from(["\n", "\r\n"]), bom=st.booleans()
)
def test_csv_rows_equal_those_of_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], ending: str, bom: bool
) -> None:
    """Quoted commas, quotes and line breaks included; nothing is converted."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + buffer.getvalue().encode())
    part = Csv(path)
    expected = [dict(zip("ab", row, strict=True)) for row in csv.reader(io.StringIO(buffer.getvalue(), newline=""))][1:]
    assert [part.row(i) for i in reversed(range(len(part)))] == expected[::-1]


def test_csv_values_stay_as_they_are_written(tmp_path: Path) -> None:
    part = Csv(
        write_csv(tmp_path / "a.csv", [["answer"], ["007"], ["NA"], ["None"], ["1e3"], ["true"], [" x "], ["x" * 200_000]])
    )
    assert [part.row(i)["answer"] for i in range(7)] == ["007", "NA", "None", "1e3", "true", " x ", "x" * 200_000]


def test_csv_rows_of_the_wrong_length_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n\n1,2,3\n"x\ny",4\n5\n')
    part = Csv(path)
    assert len(part) == 4, "blank lines do not count"
    assert part.row(2) == {"a": "x\ny", "b": "4"}
    for index, fields in ((1, 3), (3, 1)):
        with pytest.raises(BadRow, match=f"has {fields} fields, the header has 2"):
            part.row(index)


def test_an_empty_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match="is empty"):
        Csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("line", "reason"), [(b'{"a": ', "not valid JSON"), (b'{"a": "\xff"}', "not valid UTF-8"), (b"[1, 2]", "not an object")]
)
def test_a_broken_line_spoils_one_row(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}')
    part = JsonLines(path)
    assert [part.row(0), part.row(2)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(BadRow) as caught:
        part.row(1)
    assert caught.value.reason == reason


def test_json_is_an_array_or_json_lines(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": None, "b": "x"}]
    (tmp_path / "array.json").write_text(" \n" + json.dumps(rows, indent=1))
    for part in (open_json(tmp_path / "array.json"), open_json(write_jsonl(tmp_path / "lines.json", rows))):
        assert [part.row(i) for i in range(len(part))] == rows
    (tmp_path / "bad.json").write_text('[{"a": 1},')
    with pytest.raises(UserError, match=r"bad\.json.* is not valid JSON"):
        open_json(tmp_path / "bad.json")
    (tmp_path / "mixed.json").write_text('[{"a": 1}, 3]')
    with pytest.raises(BadRow, match="not int"):
        open_json(tmp_path / "mixed.json").row(1)


def test_a_table_knows_which_file_a_row_is_from(tmp_path: Path) -> None:
    parts = [JsonLines(write_jsonl(tmp_path / f"{n}/a.jsonl", [{"n": n, "i": i} for i in range(n)])) for n in (2, 0, 3)]
    table = Table(parts)
    assert len(table) == 5
    read = [table.read(i, lambda row, folder: (row["n"], row["i"], folder)) for i in range(5)]
    assert read == [(n, i, tmp_path / str(n)) for n, i in ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2))]
    assert table.place(3) == f"row 2 of {tmp_path}/3/a.jsonl"


def test_parts_survive_pickling(tmp_path: Path) -> None:
    parts = [JsonLines(write_jsonl(tmp_path / "a.jsonl", [{"a": 1}])), Csv(write_csv(tmp_path / "a.csv", [["a"], ["1"]]))]
    assert [pickle.loads(pickle.dumps(part)).row(0) for part in parts] == [{"a": 1}, {"a": "1"}]


def test_image_files_have_the_name_of_their_folder_as_label(tmp_path: Path) -> None:
    part = ImageFiles(tmp_path, [tmp_path / "cat/1.png", tmp_path / "dog/1.png"])
    assert [part.row(i)["label"] for i in range(2)] == ["cat", "dog"]
    assert part.row(0)["file_name"] == str(tmp_path / "cat/1.png")

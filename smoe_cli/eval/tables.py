"""Rows of a data file, whatever its format, each with the place it comes from, so that every complaint can name it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from smoe_cli.errors import UserError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".arrow")
DAMAGED = "is it the right file, and whole? copy it again"
CSV_COLUMNS = ("question", "A", "B", "C", "D", "answer")
"""Columns of a CSV file without a header: MMLU's original layout."""


@dataclass(frozen=True)
class Row:
    """One row: its file, its number counted from 1 (for JSON lines and CSV: without blank lines and header), its values."""

    file: Path
    number: int
    values: dict[str, Any]

    def error(self, message: str, help: str | None = None) -> UserError:
        """The error to raise about this row."""
        return UserError(f"{self.file}: row {self.number}: {message}", help or "correct the row, or leave it out")

    def get(self, *names: str) -> Any:
        """The value of the first of these columns that the row has. Raises UserError when it has none of them."""
        for name in names:
            if name in self.values:
                return self.values[name]
        raise self.error(
            f"no column `{names[0]}`", f"columns of this file: {short(', '.join(map(str, self.values)), 300) or 'none'}"
        )

    def text(self, *names: str) -> str:
        """Like `get`, for a column that holds text. Raises UserError on anything else, a lone surrogate included."""
        value = self.get(*names)
        if not is_text(value):
            raise self.error(f"`{names[0]}` is not a text")
        return value


def is_text(value: Any) -> TypeGuard[str]:
    """Whether the value is a string that UTF-8 can write."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def integral(value: Any) -> Any:
    """An int for a float without a fraction: libraries store a column of integers as floats once a row lacks one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def short(text: str, longest: int = 80) -> str:
    """A value as it is shown in a message: its beginning, when it is long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def read_rows(file: Path) -> Iterator[Row]:
    """Rows of a .parquet, .jsonl, .json (a list), .csv or .arrow (stream) file. Raises UserError if unreadable or empty."""
    readers = {".parquet": _parquet, ".arrow": _arrow, ".jsonl": _json_lines, ".json": _json_list, ".csv": _csv}
    if file.suffix not in readers:
        raise UserError(f"{file}: no reader for `{file.suffix or file.name}` files", f"known: {', '.join(SUFFIXES)}")
    empty = True
    try:
        for number, values in enumerate(readers[file.suffix](file), start=1):
            empty = False
            row = Row(file, number, values)
            if not isinstance(values, dict):
                raise row.error(f"expected a mapping of columns, found {type(values).__name__}")
            yield row
    except FileNotFoundError:
        raise UserError(f"{file}: no such file", "check the path") from None
    except (OSError, ValueError, KeyError, NotImplementedError, RecursionError, csv.Error) as error:  # of pyarrow, json and csv
        raise UserError(f"{file}: cannot be read as {file.suffix[1:]}: {_first_line(error)}", DAMAGED) from None
    if empty:
        raise UserError(f"{file}: no rows", DAMAGED)


def _parquet(file: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=64):
            yield from batch.to_pylist()


def _arrow(file: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        for batch in stream:
            yield from batch.to_pylist()


def _json_lines(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line.rstrip("\n"))
            except json.JSONDecodeError as error:
                raise UserError(f"{file}:{number}:{error.colno}: not JSON: {error.msg}", "correct the line") from None
            except RecursionError:
                raise UserError(f"{file}:{number}: too deeply nested", "correct the line") from None


def _json_list(file: Path) -> Iterator[Any]:
    rows = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list):
        raise UserError(f"{file}: expected a list of rows, found {type(rows).__name__}", "one row a line is a .jsonl file")
    yield from rows


def _csv(file: Path) -> Iterator[Any]:
    """The csv module and not pandas, which would read the choices "None" and "NA" as missing."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines)
        columns: list[str] | None = None
        for cells in reader:
            if not cells:
                continue
            if columns is None:
                names = [cell.strip() for cell in cells]
                # a header, and not MMLU's first row, which ends with the letter of its answer
                if names[0].lower() == "question" or ("question" in names and names[-1] not in ("A", "B", "C", "D")):
                    columns = names
                    continue
                columns = list(CSV_COLUMNS)
            if len(cells) != len(columns):
                raise UserError(
                    f"{file}:{reader.line_num}: {len(cells)} cells, expected {len(columns)} ({', '.join(columns)})",
                    "a cell with a comma or a line feed stands in quotes",
                )
            yield dict(zip(columns, cells, strict=True))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

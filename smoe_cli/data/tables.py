"""Local files read row by row from where they lie.

JSON Lines and CSV are indexed by byte offset rather than handed to a library that guesses column types: "007" stays "007",
"NA" stays "NA", one broken line spoils one row, and the row can be named. A row is a mapping from column to value.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from smoe_cli.data.sample import BadRow
from smoe_cli.errors import UserError

Row = Mapping[str, Any]
T = TypeVar("T")


class Part(ABC):
    """One file, or one dataset."""

    label: str
    """Named in errors."""
    folder: Path | None = None
    """Where relative paths in its rows start."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def row(self, index: int) -> Row:
        """The row at an index. Raises BadRow when it cannot be parsed."""


class Table:
    """Several parts as one."""

    def __init__(self, parts: Sequence[Part]):
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, index: int) -> tuple[Part, int]:
        """(part, index within it)."""
        which = bisect_right(self._starts, index) - 1
        return self._parts[which], index - self._starts[which]

    def read(self, index: int, read: Callable[[Row, Path | None], T]) -> T:
        """What `read` makes of the row at an index and the folder of its file."""
        part, row_index = self.locate(index)
        return read(part.row(row_index), part.folder)

    def place(self, index: int) -> str:
        """The row at an index, for the user: rows count from 1, without a header."""
        part, row_index = self.locate(index)
        return f"row {row_index + 1} of {part.label}"


class _Lines(Part):
    """Records of a text file by byte offset; the file is opened for each one, which survives forks and pickling."""

    def __init__(self, path: Path, offsets: Sequence[int]):
        self.label, self.folder, self._path = str(path), path.parent, path
        self._offsets = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._offsets)

    def _text(self, index: int) -> str:
        start, end = self._offsets[index].tolist()
        with self._path.open("rb") as file:
            file.seek(start)
            raw = file.read(end - start)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRow("not valid UTF-8", f"not valid UTF-8 ({error.reason})") from error


class JsonLines(_Lines):
    """A .jsonl file: one object a line. Blank lines do not count."""

    def __init__(self, path: Path):
        offsets: list[int] = []
        end = 0
        with path.open("rb") as file:
            for line in file:
                start, end = end, end + len(line)
                if not offsets and line.startswith(b"\xef\xbb\xbf"):
                    start += 3
                if line.strip():
                    offsets += (start, end)
        super().__init__(path, offsets)

    def row(self, index: int) -> Row:
        try:
            row = json.loads(self._text(index))
        except json.JSONDecodeError as error:
            raise BadRow("not valid JSON", f"not valid JSON ({error})") from error
        return _checked_object(row)


class Csv(_Lines):
    """A .csv file with a header. All values are strings."""

    def __init__(self, path: Path):
        csv.field_size_limit(sys.maxsize)  # the default refuses texts of more than 128 kB
        with path.open("rb") as file:
            reader = _Counted(file)
            offsets: list[int] = []
            self._header: list[str] | None = None
            start = 0
            for record in csv.reader(reader):
                if record and self._header is None:
                    self._header = record
                elif record:
                    offsets += (start, reader.consumed)
                start = reader.consumed
        if self._header is None:
            raise UserError(f'"{path}" is empty', help="a .csv file begins with a line of column names")
        super().__init__(path, offsets)

    def row(self, index: int) -> Row:
        csv.field_size_limit(sys.maxsize)
        record = next(csv.reader(io.StringIO(self._text(index), newline="")))
        assert self._header is not None
        if len(record) != len(self._header):
            detail = f"the row has {len(record)} fields, the header has {len(self._header)}"
            raise BadRow("wrong number of fields", detail)
        return dict(zip(self._header, record, strict=True))


class _Counted:
    """Lines of a binary file as text, counting the bytes handed out; a CSV record may span several lines."""

    def __init__(self, file: io.BufferedReader):
        self._file, self.consumed = file, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            encoding = "utf-8-sig" if self.consumed == 0 else "utf-8"
            self.consumed += len(line)
            yield line.decode(encoding, errors="replace")


class JsonArray(Part):
    """A .json file: one array of objects, held in memory."""

    def __init__(self, path: Path, rows: list[Any]):
        self.label, self.folder, self._rows = str(path), path.parent, rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        return _checked_object(self._rows[index])


def open_json(path: Path) -> Part:
    """A .json file: an array of objects, or JSON Lines under another name."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"["):
        return JsonLines(path)
    try:
        return JsonArray(path, json.loads(path.read_text(encoding="utf-8-sig")))
    except ValueError as error:
        raise UserError(f'"{path}" is not valid JSON: {error}') from error


class ImageFiles(Part):
    """The images of a folder: columns `file_name` and `label`, the name of the folder that an image lies in."""

    def __init__(self, root: Path, files: Sequence[Path]):
        self.label, self.folder, self._files = str(root), root, tuple(files)

    def __len__(self) -> int:
        return len(self._files)

    def row(self, index: int) -> Row:
        path = self._files[index]
        return {"file_name": str(path.absolute()), "label": path.parent.name}


def _checked_object(row: Any) -> Row:
    if not isinstance(row, dict):
        raise BadRow("not an object", f"a row is an object with a value for each column, not {type(row).__name__}")
    return row

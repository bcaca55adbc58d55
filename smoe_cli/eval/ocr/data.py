"""Questions about images in OCRBench's columns: dataset, question, question_type, answer, image.

Read from a parquet, JSON-lines or JSON file, or a folder of them. The benchmark's own `OCRBench.json` names the columns
`dataset_name`, `type`, `answers` and `image_path`, with the images in `OCRBench_Images/` beside it: read as well.

`answer` is a text, a number or a list of them. A text that spells a list, such as `['436']` from a table that has no lists, is
that list; an answer that is really spelt so must be put in a list of its own.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from smoe_cli.data.images import read_image
from smoe_cli.data.sample import BadRow
from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.scoring import normalise
from smoe_cli.eval.tables import Row, is_text, read_rows, short

IMAGE_FOLDERS = ("", "OCRBench_Images")
"""Where relative paths are looked up, beside the data file."""


@dataclass(frozen=True)
class OcrQuestion:
    """One question. The image is kept as it is stored and decoded when it is asked about."""

    row: Row
    dataset: str
    question: str
    question_type: str
    answers: tuple[str, ...]
    image: bytes | Path

    def decode(self) -> Image.Image:
        """The image, RGB, upright. Raises UserError naming file and row."""
        try:
            return read_image(self.image, None)
        except BadRow as error:
            place = f": {self.image}" if isinstance(self.image, Path) else ""
            raise self.row.error(error.detail + place, "replace the image, or leave the row out") from None


@dataclass(frozen=True)
class OcrData:
    """Questions in file order, and the files they came from."""

    questions: tuple[OcrQuestion, ...]
    files: tuple[Path, ...]


def load_ocr(path: Path) -> OcrData:
    """Read questions from a file or folder. Raises UserError naming the file and row on bad data."""
    files = data_files(path)
    return OcrData(tuple(parse_question(row) for file in files for row in read_rows(file)), tuple(files))


def data_files(path: Path) -> list[Path]:
    """The file, or the data files of a folder or of its `data/` (those of split `test` when files are named after splits)."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder", "name a file of questions, or a copy of the hub's echo840/OCRBench")
    if path.is_file():
        return [path]
    for folder in (path, path / "data"):
        for pattern in ("test-*.parquet", "*.parquet", "*.jsonl", "OCRBench.json"):
            if files := sorted(folder.glob(pattern)):
                return files
    raise UserError(f"{path}: no OCRBench questions found", "expected *.parquet, *.jsonl or OCRBench.json, here or in data/")


def parse_question(row: Row) -> OcrQuestion:
    """A row in OCRBench's columns."""
    dataset = row.text("dataset", "dataset_name")
    return OcrQuestion(
        row=row,
        dataset=dataset,
        question=row.text("question"),
        question_type=row.text("question_type", "type"),
        answers=parse_answers(row, dataset),
        image=_locate(row, row.get("image", "image_path")),
    )


def parse_answers(row: Row, dataset: str) -> tuple[str, ...]:
    """The right answers of a row, at least one, as texts. Raises UserError naming the row."""
    if "answer" in row.values and "answers" in row.values and row.get("answer") != row.get("answers"):
        raise row.error("`answer` and `answers` differ", "keep the one that holds the right answers")
    value = row.get("answer", "answers")
    if isinstance(value, str) and (spelt := _spelt_list(value)) is not None:
        value = spelt
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not values:
        raise row.error("`answer` is an empty list", "name at least one right answer, or leave the row out")
    answers = tuple(_answer(row, one) for one in values)
    if not all(normalise(answer, dataset) for answer in answers):
        raise row.error("`answer` is empty", "every prediction contains an empty text, so each would count as right")
    return answers


def _spelt_list(text: str) -> list[Any] | None:
    """The list of texts and numbers that a text spells in Python or JSON, if it does."""
    if not text.strip().startswith("["):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash that escapes nothing
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    whole = isinstance(value, list) and all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in value)
    return value if whole else None


def _answer(row: Row, value: Any) -> str:
    if is_text(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        problem = f"`answer` is {short(repr(value))}, expected a text, a number or a list of them"
        raise row.error(problem, "write the right answers out, or leave the row out")
    return str(int(value)) if float(value).is_integer() else str(value)  # a column of integers may have been stored as floats


def _locate(row: Row, value: Any) -> bytes | Path:
    """The bytes, or the absolute path, of a cell that holds bytes, {bytes, path} or a path relative to the data file."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise row.error("`image` is neither bytes nor a path", "paths are relative to the data file")
    for folder in IMAGE_FOLDERS:
        path = (row.file.parent / folder / value).absolute()
        if os.path.isfile(path):  # not path.is_file(), which raises on names that are too long
            return path
    raise row.error(f"no image `{short(value)}`", "paths are relative to the data file")

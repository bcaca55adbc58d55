"""From a row of a dataset to a sample, saying exactly what is wrong with a broken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smoe_cli.data.images import read_image
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.data.tables import Row
from smoe_cli.recipe.models import Dataset


def to_sample(spec: Dataset, row: Row, folder: Path | None) -> Sample:
    """The sample in a row; relative image paths start at `folder`. Raises BadRow."""
    columns = spec.columns
    if spec.task == "lm":
        return Sample("lm", text=_text(row, columns.text))
    if columns.image not in row and "file_name" in row:  # image folders, as `datasets` names the column
        image = read_image(row["file_name"], folder)
    else:
        image = read_image(_value(row, columns.image), folder)
    if spec.task == "t2i":
        return Sample("t2i", text=_text(row, columns.caption), image=image)
    question = spec.question if spec.question is not None else _text(row, columns.question, may_be_empty=True)
    return Sample("mmu", text=_answer(row, columns.answer), question=question, image=image)


def _value(row: Row, column: str) -> Any:
    if column not in row:
        has = ", ".join(sorted(map(str, row))) or "none"
        raise BadRow(f'no column "{column}"', f'no column "{column}" (columns: {has})')
    return row[column]


def _text(row: Row, column: str, may_be_empty: bool = False) -> str:
    return _string(_value(row, column), column, may_be_empty)


def _answer(row: Row, column: str) -> str:
    """An answer, or the first of a list of accepted ones."""
    value = _value(row, column)
    if isinstance(value, list | tuple):
        if not value:
            raise BadRow(f'column "{column}" is an empty list')
        value = value[0]
    return _string(value, column)


def _string(value: Any, column: str, may_be_empty: bool = False) -> str:
    if value is None:
        raise BadRow(f'column "{column}" is missing a value')
    if not isinstance(value, str):
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        raise BadRow(f'column "{column}" is not text', f'column "{column}" is {type(value).__name__}, not text: {shown}')
    if not value.strip() and not may_be_empty:
        raise BadRow(f'column "{column}" is empty')
    return value

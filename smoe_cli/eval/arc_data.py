"""ARC's questions, from a file or from a folder in the layout of the hub's `allenai/ai2_arc`.

`DIR/ARC-Easy/` (or `DIR` itself) holds the splits as `test-*.parquet`, `test.parquet`, `test.jsonl` or `test/*.arrow`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.eval.mmlu_data import split_files
from smoe_cli.eval.tables import Row, is_text, read_rows, short

SUBSET = "ARC-Easy"
SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class ArcQuestion:
    """A question with three to five choices. `answer` is the index of the right one."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class ArcData:
    """Questions in file order, and the files they came from."""

    questions: tuple[ArcQuestion, ...]
    files: tuple[Path, ...]


def load_arc(path: Path, split: str | None = None) -> ArcData:
    """Read ARC-Easy: a file, or a split (default `test`) of a folder. Raises UserError naming the file and row of bad data."""
    files = _files(path, split)
    questions = [parse_arc(row) for file in files for row in read_rows(file)]
    return ArcData(tuple(questions), tuple(files))


def _files(path: Path, split: str | None) -> list[Path]:
    if path.is_file():
        if split is not None:
            raise UserError(f"{path}: `split: {split}` chooses within a folder, and this is a file", "remove `split`")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder", "ARC is read from a local copy of the hub's `allenai/ai2_arc`")
    folder = path / SUBSET if (path / SUBSET).is_dir() else path
    if files := split_files(folder, split or "test"):
        return files
    others = [name for name in SPLITS if split_files(folder, name)]
    raise UserError(
        f"{folder}: no `{split or 'test'}` split",
        f"it has {', '.join(others)}: set `split`, or name the file" if others else "expected the layout of `allenai/ai2_arc`",
    )


def parse_arc(row: Row) -> ArcQuestion:
    """A row with `question`, `choices` {text: [...], label: [...]} and `answerKey`, one of the labels."""
    question = row.text("question")
    choices = row.get("choices")
    if not isinstance(choices, Mapping) or not {"text", "label"} <= choices.keys():
        raise row.error("`choices` is not a mapping of `text` and `label`")
    texts, labels = _texts(row, choices, "text"), _texts(row, choices, "label")
    if len(texts) != len(labels) or len(texts) < 2:
        raise row.error(f"`choices` has {len(texts)} texts and {len(labels)} labels")
    key = row.get("answerKey")
    if key not in labels:
        raise row.error(f"`answerKey` is {short(repr(key))}, the labels are {', '.join(labels)}")
    if not all(texts):
        raise row.error("a choice is empty")
    return ArcQuestion(str(row.values.get("id", row.number)), question, texts, labels.index(key))


def _texts(row: Row, choices: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = choices[name]
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(is_text(value) for value in values):
        raise row.error(f"`choices.{name}` is not a list of texts")
    return tuple(values)

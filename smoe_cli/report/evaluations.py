"""The results in a run's eval folder as scores of tasks over time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.compare.alike import differing, fields
from smoe_cli.eval.compare.paired import Comparison, NotPaired, compare_paired, compare_unpaired, metrics_of, predictions_of
from smoe_cli.eval.compare.significance import Z95, wilson
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.results import Metric, check_result
from smoe_cli.report.lookup import get
from smoe_cli.report.words import whole

Row = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """One result of one task."""

    when: str
    """What was measured: the phase at whose end it was, or the step."""
    step: int | None
    """None: measured after training, on the final model."""
    metrics: dict[str, Metric]
    """Not empty; the first is the main one."""
    row: Row
    """The result as read, with the path of its file as `file`."""

    @property
    def name(self) -> str:
        """The main metric's."""
        return next(iter(self.metrics))

    @property
    def main(self) -> Metric:
        """The number that stands for the task."""
        return self.metrics[self.name]

    def obstacle(self, before: Score) -> str | None:
        """Why there is no change from `before` to this score, naming what differs; None where they were measured alike."""
        totals = [score.main.count and score.main.count.total for score in (before, self)]
        unequal = differing(fields(before.row), fields(self.row))
        if totals[0] != totals[1] or any(name.startswith("hashes.") for name in unequal):
            return "other questions"
        return f"other protocol: {', '.join(name.removeprefix('protocol.') for name in unequal)}" if unequal else None


def read_evaluations(folder: Path, notes: list[str], read: Callable[[Path, list[str]], Row]) -> tuple[Row, ...]:
    """The results in `folder` by ascending step, then time; what is no result is noted. read(path, notes): a JSON object."""
    found: list[Row] = []
    for path in sorted(folder.glob("*.json")):
        row = read(path, notes)
        try:
            if row:
                check_result(row, f"eval/{path.name}")
                metrics_of(row, f"eval/{path.name}")
                found.append({**row, "file": str(path)})
        except UserError as error:
            notes.append(f"{error.message}; it was left out.")
    return tuple(sorted(found, key=_when))


def score(row: Row, phase: str, end: int | None) -> Score:
    """A result as read. phase: its name, or empty; end: the step at which that phase ends."""
    step = whole(row.get("step"))
    inside = step is not None and end is not None and step < end
    when = f"step {step:,}" if step is not None and (inside or not phase) else phase or "final model"
    return Score(when, step, metrics_of(row, str(row.get("file"))), row)


def title(row: Row) -> str:
    """`task`, with the result's own name and its source where they say more."""
    parts = [str(row["task"])]
    for part in (row.get("name"), get(row, "protocol", "source")):
        if part and str(part) not in parts:
            parts.append(str(part))
    return " · ".join(parts)


def interval(metric: Metric) -> tuple[float, float] | None:
    """95 % interval: Wilson's of a share, else normal from the standard error; None where neither is known."""
    if metric.count and metric.count.total:
        return wilson(metric.count.correct, metric.count.total)
    if metric.standard_error is None:
        return None
    return metric.value - Z95 * metric.standard_error, metric.value + Z95 * metric.standard_error


def change(before: Score, after: Score) -> Comparison:
    """Of the main metric: by the answers to the same questions where both results left theirs, else by counts or errors.

    Both must have been measured alike (`Score.obstacle`).
    """
    try:
        return compare_paired(_answers(before), _answers(after))
    except (NotPaired, UserError) as why:
        return compare_unpaired(before.main, after.main, str(why))


def _answers(score: Score) -> list[Prediction]:
    """Raises NotPaired or UserError where there are none that can be used."""
    file = Path(str(score.row.get("file")))
    beside = file.parent / Path(str(score.row.get("predictions"))).name  # whatever the result says, nowhere else
    if not beside.is_file():
        raise NotPaired(f"{file.name} has no file of predictions")
    return predictions_of({**score.row, "predictions": beside.name}, file)


def _when(row: Row) -> tuple[float, str, int]:
    """Order of measuring. Times are ISO 8601 in UTC, to the second; within one, `mmlu.json` came before `mmlu-2.json`."""
    step = whole(row.get("step"))
    number = re.search(r"-(\d+)\.json$", row["file"])
    return math.inf if step is None else step, str(row.get("time") or ""), int(number[1]) if number else 1

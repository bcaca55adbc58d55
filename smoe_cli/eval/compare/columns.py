"""Results that were measured alike, as the columns of a table: a value for each model, and its distance to the first's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_cli.eval.compare.alike import Row, circumstances, differing, fields
from smoe_cli.eval.compare.paired import Comparison, NotPaired, compare_paired, compare_unpaired, metrics_of, predictions_of
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.results import Metric

Spread = Mapping[str, Mapping[str, Any]]
"""{field: {model: its value}} of fields that differ; a model without the field is left out."""


@dataclass(frozen=True)
class Column:
    """One metric of a task."""

    task: str
    name: str
    title: str
    """The name, and where several columns have it, what tells them apart."""
    metric: str
    better: str
    main: bool
    """Whether it stands for the task."""
    values: Mapping[str, Metric]
    """By model; the first is the baseline."""
    comparisons: Mapping[str, Comparison]
    """Of every other model with the baseline."""
    overruled: Spread
    """What differs and was allowed to."""
    circumstances: Spread
    """What differs and need not be equal: batch size, device, …"""

    @property
    def baseline(self) -> str:
        """The model that the others are compared with."""
        return next(iter(self.values))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "task": self.task,
            "name": self.name,
            "metric": self.metric,
            "main": self.main,
            "better": self.better,
            "values": {model: value.to_dict() for model, value in self.values.items()},
            "differences": [
                {"model": model, "baseline": self.baseline, **one.to_dict()} for model, one in self.comparisons.items()
            ],
            "overruled": self.overruled,
            "circumstances": self.circumstances,
        }


def columns_of(groups: Sequence[Mapping[str, Row]]) -> list[Column]:
    """A column for each metric of each group: {model: its result, with its file as `file`}, at least two, all measured alike.

    Raises UserError on damaged numbers or predictions.
    """
    firsts = [next(iter(group.values())) for group in groups]
    return [column for group, first in zip(groups, firsts, strict=True) for column in _columns(group, _title(first, firsts))]


def _columns(group: Mapping[str, Row], title: str) -> list[Column]:
    (baseline, first), *others = group.items()
    metrics = {model: metrics_of(row, row["file"]) for model, row in group.items()}
    overruled, circumstance = spread(group, fields), spread(group, circumstances)
    columns = []
    for index, name in enumerate(metrics[baseline]):
        values = {model: own[name] for model, own in metrics.items() if name in own}
        answers = {model: _answers(group[model], name) for model in values}
        comparisons = {}
        for model, row in others:
            if model in values:
                pair = answers[baseline], answers[model]
                comparisons[model] = _compare((values[baseline], values[model]), pair, _other_questions(first, row))
        columns.append(
            Column(
                task=first["task"],
                name=first["name"],
                title=title,
                metric=name,
                better=values[baseline].better,
                main=index == 0,
                values=values,
                comparisons=comparisons,
                overruled=overruled,
                circumstances=circumstance,
            )
        )
    return columns


def _answers(row: Row, metric: str) -> list[Prediction] | str:
    """The predictions that a metric came from, or why there are none."""
    try:
        return predictions_of(row, Path(row["file"]), metric)
    except NotPaired as reason:
        return str(reason)


def _other_questions(first: Row, second: Row) -> str | None:
    """Allowed differences after which equal ids are no longer equal questions."""
    other = [name for name in differing(fields(first), fields(second)) if name == "name" or name.startswith("hashes.")]
    return f"`{other[0]}` differs" if other else None


def _compare(
    metrics: tuple[Metric, Metric], answers: tuple[list[Prediction] | str, list[Prediction] | str], why: str | None
) -> Comparison:
    first, second = answers
    why = why or next((one for one in answers if isinstance(one, str)), None)
    if why is None and isinstance(first, list) and isinstance(second, list):
        try:
            return compare_paired(first, second)
        except NotPaired as reason:
            why = str(reason)
    return compare_unpaired(*metrics, why=why or "")


def _title(row: Row, rows: Sequence[Row]) -> str:
    """The result's name, and where others have it too, the fields in which they differ: hashes, cut, if nothing else tells."""
    others = [other for other in rows if other is not row and other["name"] == row["name"]]
    own = fields(row)
    names = dict.fromkeys(name for other in others for name in differing(own, fields(other)) if name in own)
    telling = [name for name in names if not name.endswith("sha256")]
    apart = [f"{name.removeprefix('protocol.')} {own[name]}" for name in telling]
    apart = apart or [f"{name.removeprefix('protocol.')} {str(json.loads(own[name]))[:8]}" for name in names]
    return f"{row['name']} ({', '.join(apart)})" if apart else str(row["name"])


def spread(group: Mapping[str, Row], read: Callable[[Row], Mapping[str, str]]) -> Spread:
    """What differs within a group, of the fields that `read` finds in a result."""
    found = {model: read(row) for model, row in group.items()}
    names = dict.fromkeys(name for own in found.values() for name in own)
    unequal = [name for name in names if len({own.get(name) for own in found.values()}) > 1]
    return {name: {model: json.loads(own[name]) for model, own in found.items() if name in own} for name in unequal}

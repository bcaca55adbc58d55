"""Which results were measured alike, and may therefore stand in one column; of the others, what differs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Row = dict[str, Any]
"""A result as `Result.to_dict` writes it."""

ABSENT = "absent"
"""Stands for the value of a field that a result does not have."""


def fields(row: Row) -> dict[str, str]:
    """What must be equal for two results of a task to be comparable: {dotted name, `protocol.image.size`: value as JSON}."""
    asked = {"name": row["name"], "task_version": row["task_version"], "protocol": row["protocol"]}
    return dict(_flat(asked | {"hashes": {"data": row["hashes"]["data"]} if row["hashes"].get("data") else {}}))


def circumstances(row: Row) -> dict[str, str]:
    """What a score may depend on in its last digits, in the same form."""
    found = row.get("circumstances")
    return dict(_flat(found)) if isinstance(found, dict) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, one in value.items():
        if isinstance(one, dict):
            yield from _flat(one, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(one, sort_keys=True, ensure_ascii=False)


def differing(first: Mapping[str, str], second: Mapping[str, str], allowed: Collection[str] = ()) -> list[str]:
    """Fields whose values differ, or that only one has, in the first's order; less the allowed ones."""
    names = {**first, **second}
    return [name for name in names if first.get(name) != second.get(name) and name not in allowed]


def way(row: Row, allowed: Collection[str] = ()) -> tuple[str, ...]:
    """How a result was measured, but for the allowed fields: equal texts, equal ways."""
    return (row["task"], *sorted(f"{name}={value}" for name, value in fields(row).items() if name not in allowed))


@dataclass(frozen=True)
class Refusal:
    """Two models whose results of a task cannot stand in one column, and why."""

    task: str
    models: tuple[str, str]
    fields: Mapping[str, tuple[str, str]]
    """{name: its value for each of the two, as JSON or `ABSENT`}; not empty."""


@dataclass(frozen=True)
class Matched:
    """The results of some models, sorted into what can be compared and what cannot."""

    columns: list[dict[str, Row]]
    """Results that were measured alike, by model; at least two each."""
    refusals: list[Refusal]
    alone: list[tuple[str, Row]]
    """Results without a like, of models that are not refused: nobody else has the task, or they have it in another way too."""


def match(models: Mapping[str, Sequence[Row]], allowed: Collection[str] = ()) -> Matched:
    """Sort the results of each model, none of which has two that were measured alike."""
    found = Matched([], [], [])
    for group in _groups(models):
        if len(group) == 1:
            found.alone.extend((model, row) for model, rows in group.items() for row in rows)
            continue
        ways: dict[tuple[str, ...], dict[str, Row]] = {}
        for model, rows in group.items():
            for row in rows:
                ways.setdefault(way(row, allowed), {})[model] = row
        columns = [column for column in ways.values() if len(column) > 1]
        found.columns.extend(columns)
        placed = {model for column in columns for model in column}
        found.alone.extend(
            (model, row) for one in ways.values() if len(one) == 1 for model, row in one.items() if model in placed
        )
        anchor = next(iter(columns[0] if columns else group))
        against = [columns[0][anchor]] if columns else group[anchor]
        for model in group:
            if model not in placed and model != anchor:
                found.refusals.append(_refusal((anchor, against), (model, group[model]), allowed))
    return found


def _groups(models: Mapping[str, Sequence[Row]]) -> list[dict[str, list[Row]]]:
    """Results to compare with each other: of one task and name; or of one task, where no two models have the same name."""
    named: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for model, rows in models.items():
        for row in rows:
            named.setdefault((row["task"], row["name"]), {}).setdefault(model, []).append(row)
    groups: dict[tuple[str, str | None], dict[str, list[Row]]] = {}
    for (task, name), group in named.items():
        joined = groups.setdefault((task, name if len(group) > 1 else None), {})
        for model, rows in group.items():
            joined.setdefault(model, []).extend(rows)
    return list(groups.values())


def _refusal(one: tuple[str, Sequence[Row]], other: tuple[str, Sequence[Row]], allowed: Collection[str]) -> Refusal:
    """Where a model has several results of the task, those two are named in which least differs."""
    pairs = [(fields(a), fields(b)) for a, b in product(one[1], other[1])]
    first, second = min(pairs, key=lambda pair: len(differing(pair[0], pair[1], allowed)))
    unequal = {name: (first.get(name, ABSENT), second.get(name, ABSENT)) for name in differing(first, second, allowed)}
    return Refusal(one[1][0]["task"], (one[0], other[0]), unequal)

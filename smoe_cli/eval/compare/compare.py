"""Results of several models side by side: what was measured alike stands in one column, what was not is refused."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.compare.alike import ABSENT, Refusal, Row, fields, match, way
from smoe_cli.eval.compare.columns import Column, columns_of
from smoe_cli.eval.results import read_results
from smoe_cli.recipe.words import did_you_mean


@dataclass(frozen=True)
class Compared:
    """Everything that `smoe compare` has to say. Models are called A, B, …"""

    paths: Mapping[str, Path]
    """What was named, by model."""
    rows: Mapping[str, Sequence[Row]]
    """The results that were taken; `file` is where each lies."""
    columns: Sequence[Column]
    refusals: Sequence[Refusal]
    alone: Sequence[tuple[str, Row]]
    """(model, result) of what no other model has."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "comparison": 1,
            "models": [
                {"model": model, "path": str(path), "results": [row["file"] for row in self.rows[model]]}
                for model, path in self.paths.items()
            ],
            "columns": [column.to_dict() for column in self.columns],
            "refused": [
                {"task": one.task, "models": list(one.models), "fields": {name: _held(one, name) for name in one.fields}}
                for one in self.refusals
            ],
            "alone": [
                {"model": model, "task": row["task"], "name": row["name"], "file": row["file"]} for model, row in self.alone
            ],
        }


def is_comparison(text: str) -> bool:
    """Whether a file with this text may be one that `smoe compare --json` wrote, by its beginning."""
    return text.startswith('{\n  "comparison": ')


def _held(refusal: Refusal, name: str) -> dict[str, Any]:
    pairs = zip(refusal.models, refusal.fields[name], strict=True)
    return {model: json.loads(value) for model, value in pairs if value != ABSENT}


def compare(paths: Sequence[Path], allowed: Collection[str] = ()) -> Compared:
    """Compare what lies at `paths`, each a file of results, a folder of such files, or a run directory.

    allowed: fields that may differ. Raises UserError on fewer than two paths, on files that cannot be read, on results without
    a task in common, and on a field that is unknown or does not differ.
    """
    letters = string.ascii_uppercase
    if not 2 <= len(paths) <= len(letters):
        raise UserError(f"{len(paths)} given, from 2 to {len(letters)} can be compared", "smoe compare BEFORE AFTER …")
    named = dict(zip(letters, paths, strict=False))
    seen: dict[Path, str] = {}
    for model, path in named.items():
        if (same := seen.setdefault(_place(path).resolve(), model)) != model:
            raise UserError(f"{path}: given twice, as {same} and as {model}", "name two different results")
    rows = {model: _last(_read(path)) for model, path in named.items()}
    _check_allowed([row for one in rows.values() for row in one], allowed)
    for model, path in named.items():
        _check_distinct(path, rows[model], allowed)
    found = match(rows, allowed)
    if not found.columns and not found.refusals:
        held = [f"{model} has {', '.join(dict.fromkeys(row['task'] for row in own))}" for model, own in rows.items()]
        raise UserError(f"no task in common: {'; '.join(held)}", "measure all models on one: smoe eval MODEL --tasks …")
    return Compared(named, rows, columns_of(found.columns), found.refusals, found.alone)


def _place(path: Path) -> Path:
    """The file, or the folder of files, that holds the results."""
    return path / "eval" if (path / "eval").is_dir() else path


def _read(path: Path) -> list[Row]:
    place = _place(path)
    if place.is_dir():
        if place == path and any((path / name).is_file() for name in ("config.json", "smoe.yaml")):
            raise UserError(f"{path}: a model, not its results", f"measure it first: smoe eval {path} --json FILE")
        files = sorted(place.glob("*.json"), key=lambda file: (len(file.name), file.name))  # mmlu-2.json was written later
        if not files:
            raise UserError(f"{place}: holds no results", f"measure first: smoe eval {path}")
    else:
        files = [place]
    return [row | {"file": str(file)} for file in files for row in read_results(file)]


def _last(rows: Iterable[Row]) -> list[Row]:
    """The last result of each task and way of measuring it; of those of one second the later step, no step being the last."""

    def when(row: Row) -> tuple[str, float]:
        step = row.get("step")
        return str(row.get("time")), step if isinstance(step, int) else math.inf

    return list({way(row): row for row in sorted(rows, key=when)}.values())


def _check_allowed(rows: Sequence[Row], allowed: Collection[str]) -> None:
    held: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        held.setdefault(row["task"], []).append(fields(row))
    known = list(dict.fromkeys(name for group in held.values() for own in group for name in own))
    for name in allowed:
        if name not in known:
            raise UserError(f"--allow {name}: no such field", did_you_mean(name, known, "fields"))
        if all(len({own.get(name) for own in group}) == 1 for group in held.values()):
            raise UserError(f"--allow {name}: has no effect, the field does not differ", "leave it out")


def _check_distinct(path: Path, rows: Sequence[Row], allowed: Collection[str]) -> None:
    seen: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if (other := seen.setdefault(way(row, allowed), row)) is not row:
            raise UserError(
                f"{path}: two results of {row['name']} differ only in what is allowed: {other['file']} and {row['file']}",
                "name one of the files, or leave out the --allow",
            )

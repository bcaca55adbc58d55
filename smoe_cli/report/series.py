"""Metrics and routing counts as the arrays the page draws, thinned to a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress, groupby
from math import ceil
from typing import Any

from smoe_cli.report.load import Row, Run
from smoe_cli.report.lookup import listing, mappings, moe_layers
from smoe_cli.report.words import number

POINTS = 500
"""Most points of a curve."""
CELLS = 200_000
"""Most routing counts in the page, over all frames."""

LAST = ("lr/", "shield/", "skipped_steps")
"""Settings and running totals: of several merged rows the last value stands. Measurements are averaged."""


def curves(run: Run, rows: Sequence[Row], most: int = POINTS) -> dict[str, Any]:
    """{steps: [n], phase: [n] names, merged: rows per point, series: {key: [n] numbers or None}, low, high: as series}.

    Above `most` rows, neighbouring rows of one phase share a point: their mean, with the lowest and highest beside it.
    A value that is not finite counts as none.
    """
    merged = max(1, ceil(len(rows) / most))
    bins = list(_bins(run, rows, merged))
    keys = sorted({key for row in rows for key, value in row.items() if key != "step" and number(value) is not None})
    series: dict[str, list[float | None]] = {}
    low: dict[str, list[float | None]] = {}
    high: dict[str, list[float | None]] = {}
    for key in keys:
        values = [[v for row in rows_of_bin if (v := number(row.get(key))) is not None] for rows_of_bin in bins]
        if key.startswith(LAST):
            series[key] = [_round(v[-1]) if v else None for v in values]
            continue
        series[key] = [_round(sum(v) / len(v)) if v else None for v in values]
        if merged > 1:
            low[key] = [_round(min(v)) if v else None for v in values]
            high[key] = [_round(max(v)) if v else None for v in values]
    steps = [rows_of_bin[-1]["step"] for rows_of_bin in bins]
    phase = [run.phase_name(rows_of_bin[-1].get("phase")) for rows_of_bin in bins]
    return {"steps": steps, "phase": phase, "merged": merged, "series": series, "low": low, "high": high}


def _bins(run: Run, rows: Iterable[Row], size: int) -> Iterable[list[Row]]:
    for _, group in groupby(rows, key=lambda row: run.phase_name(row.get("phase"))):
        members = list(group)
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def routing(run: Run, most: int = CELLS) -> dict[str, Any] | None:
    """The frames of the heat map, or None without a usable line.

    {columns: [{group, count}], layers, numbers: [each layer's number in the decoder], modalities, served: {modality: [bool per
    column]}, ceiling: loads from here on look alike, frames: [{from, to, phase, counts: {modality: [layers][columns]}}]}.
    Counts of neighbouring lines are summed where there are more than `most` in served columns: sums lose nothing but the time
    between.
    """
    rows = [row for row in run.routing if _usable(row)]
    if not rows:
        return None
    columns = rows[-1]["experts"]
    width = sum(column["count"] for column in columns)
    rows = [row for row in rows if row["experts"] == columns]
    modalities = [name for name in ("text", "vit", "vae") if any(name in row["counts"] for row in rows)]
    modalities += sorted({name for row in rows for name in row["counts"]} - set(modalities))
    layers = max((len(counts) for row in rows for counts in row["counts"].values()), default=0)
    served = {name: _served(run, name, columns, rows) for name in modalities}
    cells = max(1, layers * sum(map(sum, served.values())))
    merged = ceil(len(rows) / max(1, most // cells))
    frames = []
    before = 0
    for group in _bins(run, rows, merged):
        counts = {name: _sum([row["counts"].get(name, []) for row in group], layers, width) for name in modalities}
        frames.append(
            {"from": before, "to": group[-1]["step"], "phase": run.phase_name(group[-1].get("phase")), "counts": counts}
        )
        before = group[-1]["step"]
    return {
        "columns": columns,
        "layers": layers,
        "numbers": moe_layers(run.plan, layers),
        "modalities": modalities,
        "served": served,
        "ceiling": _ceiling(columns, frames),
        "merged": merged,
        "frames": frames,
    }


def _usable(row: Row) -> bool:
    experts, counts = row.get("experts"), row.get("counts")
    return (
        isinstance(experts, list)
        and isinstance(counts, dict)
        and all(isinstance(column, dict) and isinstance(column.get("count"), int) and column["count"] > 0 for column in experts)
        and all(isinstance(layers, list) and all(isinstance(layer, list) for layer in layers) for layers in counts.values())
    )


def _sum(tables: Sequence[Sequence[Sequence[object]]], layers: int, width: int) -> list[list[int]]:
    total = [[0] * width for _ in range(layers)]
    for table in tables:
        for layer, row in enumerate(table):
            for column, value in enumerate(row[:width]):
                total[layer][column] += int(number(value) or 0)
    return total


def _served(run: Run, modality: str, columns: Sequence[Row], rows: Sequence[Row]) -> list[bool]:
    """Whether each column's group serves the modality: by the plan, or because a token got there."""
    named = {str(group.get("name")) for group in mappings(run.plan, "groups") if modality in listing(group, "modalities")}
    served: list[bool] = []
    for column in columns:
        start, end = len(served), len(served) + column["count"]
        reached = any(any(map(number, layer[start:end])) for row in rows for layer in row["counts"].get(modality, []))
        served += [reached or str(column.get("group")) in named] * column["count"]
    return served


def compact(frames: Row) -> Row:
    """Frames with the counts of served columns only; the script puts the others, which are 0, back."""
    served = frames["served"]

    def kept(counts: Row) -> Row:
        return {name: [[*compress(layer, served[name])] for layer in layers] for name, layers in counts.items()}

    return {**frames, "frames": [{**frame, "counts": kept(frame["counts"])} for frame in frames["frames"]]}


def _ceiling(columns: Sequence[Row], frames: Sequence[Row]) -> float:
    """The load (1 = the group's tokens spread evenly) that 99 % of the cells stay below, at least 2."""
    loads: list[float] = []
    for frame in frames:
        for layers in frame["counts"].values():
            for layer in layers:
                start = 0
                for column in columns:
                    part = layer[start : start + column["count"]]
                    start += column["count"]
                    if whole := sum(part):
                        loads += [value * len(part) / whole for value in part]
    loads.sort()
    return max(2.0, round(loads[int(0.99 * (len(loads) - 1))], 1)) if loads else 2.0

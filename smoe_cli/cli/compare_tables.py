"""The tables of `smoe compare`, and the lines below them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from smoe_cli.eval.compare.alike import ABSENT
from smoe_cli.eval.compare.columns import Column
from smoe_cli.eval.compare.compare import Compared

NARROWEST = 80
"""Characters a line: numbers are not cut where the terminal has fewer."""


def show_comparison(found: Compared, details: bool) -> None:
    """Print a value for each model and column, the differences, and what to keep in mind. details: all metrics."""
    console = Console(highlight=False)
    console.width = max(console.width, NARROWEST)
    for model, path in found.paths.items():
        console.print(f"{model}  {path}", markup=False, soft_wrap=True)
    columns = [column for column in found.columns if column.main or details]
    if columns:
        for grid in (*(_values(found, some) for some in _fitting(columns, console.width)), _differences(columns)):
            console.print()
            console.print(grid)
        console.print()
    for line in (*_remarks(columns), *_missing(found)):
        console.print(line, style="dim", markup=False, soft_wrap=True)


def _fitting(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """The columns in as many tables as need be for each to fit into `width` characters."""
    some: list[Column] = []
    left = width
    for column in columns:
        own = 3 + max(map(len, (column.title, _metric(column), *(_cell(column, model) for model in column.values))))
        if some and own > left - 1:
            yield some
            some, left = [], width
        some.append(column)
        left -= own
    yield some


def _values(found: Compared, columns: list[Column]) -> Table:
    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("")
    for column in columns:
        grid.add_column(escape(f"{column.title}\n{_metric(column)}"), justify="right", overflow="fold")
    for model in found.paths:
        grid.add_row(model, *(_cell(column, model) for column in columns))
    return grid


def _metric(column: Column) -> str:
    return f"{column.metric} ↓" if column.better == "lower" else column.metric


def _cell(column: Column, model: str) -> str:
    metric = column.values.get(model)
    if metric is None:
        return "–"
    if metric.count:
        error = "" if metric.standard_error is None else f" ± {metric.standard_error:.3f}"
        return f"{metric.count.correct}/{metric.count.total}  {metric.value:.3f}{error}"
    return f"{metric.value:.4g}" + ("" if metric.standard_error is None else f" ± {metric.standard_error:.2g}")


def _differences(columns: list[Column]) -> Table:
    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("", overflow="fold")
    for name in ("", "difference [95 %]", "p"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("only one right")
    grid.add_column("", no_wrap=True)
    for column in columns:
        for model, one in column.comparisons.items():
            digits = "+.3f" if column.values[model].count else "+.3g"  # a share, or a number of any size
            interval = f" [{one.interval[0]:{digits}}, {one.interval[1]:{digits}}]" if one.interval else ""
            only = f"{column.baseline} {one.discordant[0]}, {model} {one.discordant[1]}" if one.discordant else ""
            how = one.method.partition(":")[0] if one.method else ""
            grid.add_row(
                escape(f"{column.title} {_metric(column)}"),
                f"{model} − {column.baseline}",
                Text(f"{one.value:{digits}}{interval}"),
                _p(one.p),
                only,
                how,
            )
    return grid


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _remarks(columns: list[Column]) -> Iterator[str]:
    """What the numbers come from, and what to keep in mind."""
    comparisons = [(column, model, one) for column in columns for model, one in column.comparisons.items()]
    yield from dict.fromkeys(one.method for _, _, one in comparisons if one.method)
    for column, model, one in comparisons:
        pair = f"{column.title}, {model} − {column.baseline}"
        if one.alike and column.main:
            same, total, apart = one.alike.same, one.alike.total, one.alike.apart
            yield f"{pair}: {same} of {total} questions answered the same, log-likelihoods differ by at most {apart:.3g}"
        if one.why and column.main:
            yield f"{pair}: not paired: {one.why}"
    for column in columns:
        if column.main:
            for name, values in column.overruled.items():
                yield f"{column.title}: {name} differs, allowed: {_by_model(values, column.values)}"
            if column.circumstances:
                told = [f"{name} {_by_model(values, column.values)}" for name, values in column.circumstances.items()]
                yield f"{column.title}: measured under other circumstances: {'; '.join(told)}"


def _missing(found: Compared) -> Iterator[str]:
    shared = {column.name for column in found.columns}
    for model, row in found.alone:
        other = " in another way too" if row["name"] in shared else ""
        yield f"{row['name']}: only {model} was measured{other}: {row['file']}"


def _by_model(values: Mapping[str, Any], models: Iterable[str]) -> str:
    texts = {model: json.dumps(values[model], ensure_ascii=False) if model in values else ABSENT for model in models}
    return ", ".join(f"{text} in {model}" for model, text in zip(texts, shown(list(texts.values())), strict=True))


def shown(values: Sequence[str]) -> list[str]:
    """JSON texts without quotes; hashes and long texts are cut where that still tells them apart."""
    plain = [value.strip('"') for value in values]
    short = [value if len(value) <= 40 else f"{value[:12]}…" for value in plain]
    return short if len(set(short)) == len(set(values)) else list(values)

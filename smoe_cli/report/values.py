"""Numbers in the page: what a reader sees, and beside it the exact value that the CSV files get."""

from __future__ import annotations

from collections.abc import Callable

from smoe_cli.eval.results import Count
from smoe_cli.report.markup import Html, el, join
from smoe_cli.report.words import certain, count, digits, number, percent, short

NONE = Html("–")


def value(raw: object, shown: object, key: str | None = None) -> Html:
    """A number as `<data value=…>`. key: its name in the CSV file, where a cell or a paragraph holds several."""
    return el("data", shown, value=raw, data_key=key)


def _writer(write: Callable[[float], str]) -> Callable[..., Html]:
    def written(raw: object, key: str | None = None) -> Html:
        found = number(raw)
        return NONE if found is None else value(int(found) if found == int(found) else found, write(found), key)

    return written


whole_number, rounded, measured, share = _writer(count), _writer(short), _writer(digits), _writer(percent)
"""Of a number or of what is none: `12,345`, `2.35 M`, `0.0123`, `76.5 %`. The second argument is the name in the CSV file."""


def estimate(raw: object, error: object, key: str | None = None) -> Html:
    """A measured number with no more digits than its standard error leaves."""
    found = number(raw)
    return NONE if found is None else value(found, certain(found, error), key)


def fraction(count: Count | None) -> Html:
    """`153/200`."""
    return join([whole_number(count.correct, "correct"), "/", whole_number(count.total, "total")]) if count else NONE


def span(low: Html, high: Html) -> Html:
    """An interval."""
    return join([low, " to ", high])

"""HTML as values: text is escaped unless it already is `Html`, so that nothing from a run can become markup by accident."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

VOID = frozenset({"br", "col", "img", "input", "meta", "link"})


class Html(str):
    """Text that is HTML already. Everything else is escaped on its way into the page."""

    __slots__ = ()


def text(value: object) -> Html:
    """`value` as HTML: escaped, or as it is when it is `Html`. None is empty."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escape(str(value)))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """The parts in a row; each is escaped unless it is `Html`."""
    return Html(separator.join(text(part) for part in parts))


def el(name: str, *children: object, **attributes: object) -> Html:
    """One element. `class_` and `for_` lose their underscore, other underscores become hyphens.

    Attributes that are None or False are left out, True stands without a value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    key = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{escape(str(value))}"'


def table(name: str, head: Sequence[str], rows: Sequence[Sequence[object]], numeric: Iterable[int] = ()) -> Html:
    """A table in a container that scrolls by itself. The first cell of a row is its heading; `numeric` columns align right.

    `name` labels the container for screen readers and names the file that the table can be saved as: each number inside a
    cell (`values.value`) is a column of that file.
    """
    right = set(numeric)

    def cell(tag: str, index: int, value: object, **more: object) -> Html:
        return el(tag, value, class_="n" if index in right else None, **more)

    header = el("tr", *(cell("th", i, title, scope="col") for i, title in enumerate(head)))
    body = [
        el("tr", *(cell("th", i, value, scope="row") if i == 0 else cell("td", i, value) for i, value in enumerate(row)))
        for row in rows
    ]
    inner = el("table", el("thead", header), el("tbody", *body), data_csv=name)
    return el("div", inner, class_="scroll", tabindex=0, role="region", aria_label=f"Table: {name}")


def missing(what: str) -> Html:
    """The sentence that stands where a part of the report has nothing to show."""
    return el("p", what, class_="missing")

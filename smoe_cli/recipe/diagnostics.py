"""Mistakes in a recipe, and how they are shown: place, message, the line, a caret under the bad part, help."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smoe_cli.errors import UserError
from smoe_cli.recipe.tree import Key, Origin, Span

_WIDEST = 110  # characters of a source line that are shown


@dataclass(frozen=True)
class Problem:
    """A mistake at a path of the recipe. With `key`, the key is at fault (unknown, without effect) rather than its value.

    tag: for a key that other kinds of its mapping have, the key beside it that says which kind this is (`kind`, `family`).
    """

    path: tuple[Key, ...]
    message: str
    help: str | None = None
    key: bool = False
    tag: str | None = None


@dataclass(frozen=True)
class Diagnostic:
    """A mistake at a place in a text (or, with an origin only, in the text as a whole)."""

    where: Span | Origin
    message: str
    help: str | None = None
    problem: Problem | None = None


class RecipeError(UserError):
    """Everything that is wrong with a recipe. `problems` lists it; the message is the rendered text."""

    located = True
    """The message already says `error:` and where; a command prints it as it stands."""

    def __init__(self, diagnostics: Iterable[Diagnostic]):
        self.diagnostics = tuple(sorted(diagnostics, key=_order))
        self.problems = tuple(d.problem or Problem((), d.message, d.help) for d in self.diagnostics)
        blocks = [render(diagnostic) for diagnostic in self.diagnostics]
        if len(blocks) > 1:
            blocks.append(f"{len(blocks)} errors")
        super().__init__("\n\n".join(blocks))


def _order(diagnostic: Diagnostic) -> tuple[int, int, int]:
    where = diagnostic.where
    return (where.origin.order, where.line, where.column) if isinstance(where, Span) else (where.order, -1, -1)


def render(diagnostic: Diagnostic) -> str:
    """One mistake as text, without a newline at the end."""
    where = diagnostic.where
    parts = [f"{shown_place(where)}: error: {diagnostic.message}"]
    if isinstance(where, Span):
        parts += _excerpt(where)
    if diagnostic.help:
        parts += [f"  help: {diagnostic.help}"]
    return "\n".join(parts)


def shown_place(where: Span | Origin) -> str:
    """file:line:column, from 1; the file alone, or the flag, where there is no more to say."""
    if isinstance(where, Origin):
        return where.label
    if where.origin.flag:
        return where.origin.label
    return f"{where.origin.label}:{where.line + 1}:{where.column + 1}"


def _excerpt(span: Span) -> Sequence[str]:
    """The line with a caret line below it; a window of it if it is long."""
    lines = span.origin.lines
    line = lines[span.line] if span.line < len(lines) else ""
    if not line.strip():
        return []
    start, width = span.column, span.width
    first = max(0, start - 60) if len(line) > _WIDEST else 0
    window = line[first : first + _WIDEST]
    start -= first
    under = window[start : start + max(width, 1)]
    head, tail = "…" if first else "", "…" if first + _WIDEST < len(line) else ""
    number = "" if span.origin.flag else f"{span.line + 1} "
    blank = " " * len(number)
    padding = " " * len(head) + "".join("\t" if c == "\t" else " " * _columns(c) for c in window[:start])
    carets = "^" * max(1, sum(map(_columns, under)))
    return [f"  {number}| {head}{_printable(window)}{tail}".rstrip(), f"  {blank}| {padding}{carets}"]


def _printable(text: str) -> str:
    """Control characters must not reach the terminal."""
    return "".join(c if c == "\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _columns(character: str) -> int:
    """Terminal cells of a character."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

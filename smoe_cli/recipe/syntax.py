"""What is wrong with a text that is not YAML, in words that help."""

from __future__ import annotations

import re

import yaml

from smoe_cli.recipe.diagnostics import Diagnostic
from smoe_cli.recipe.tree import Origin, Span

_ODD = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_KEY = re.compile(r"(\s*(?:- +)*)([\w.*/-]+)\s*")
_TIGHT = re.compile(r"\s*(?:- +)*[\w.*/-]+:(?=\S)")

# (part of PyYAML's message, ours, help); the first that fits is used.
_KNOWN: tuple[tuple[str, str, str | None], ...] = (
    ("'\\t'", "a tab cannot be used for indentation", "indent with spaces"),
    ("could not find expected ':'", "this is not a `key: value`", "is a `:`, or the space after it, missing?"),
    ("sequence entries are not allowed", "a list cannot start here", "each `- ` goes on a line of its own, or write `[a, b]`"),
    ("unexpected end of stream", "the quote opened here is never closed", None),
    (
        "unknown escape character",
        "this escape does not exist in double quotes",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    ("expected alphabetic or numeric", "`*` and `&` name anchors here", "text that starts with one goes in quotes"),
    ("cannot start any token", "this character cannot start a value", "put the text in quotes"),
)


def syntax_error(error: yaml.MarkedYAMLError, origin: Origin, last: yaml.Event | None) -> Diagnostic:
    """PyYAML's complaint at its place. `last`: what was read before."""
    raw = f"{error.context or ''}: {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Diagnostic(origin, f"not valid YAML: {error.problem}")
    if "expected <block end>" in raw or "mapping values are not allowed" in raw:
        return _stray_quote(origin, mark, last) or (_misfit if "<block end>" in raw else _stray_colon)(origin, mark)
    for closing in "}]":
        if f"expected ',' or '{closing}'" in raw:
            return _open_bracket(origin, mark, error.context_mark, closing)
    for part, message, help in _KNOWN:
        if part in raw:
            opened = part.startswith(("unexpected end of stream", "could not find"))
            return Diagnostic(_point(origin, (error.context_mark or mark) if opened else mark), message, help)
    return Diagnostic(_point(origin, mark), f"not valid YAML: {error.problem or error.context}")


def out_of_range(mark: yaml.Mark, origin: Origin) -> Diagnostic:
    """An escape beyond Unicode or an absurd version number, on which PyYAML raises a plain ValueError."""
    return Diagnostic(_point(origin, mark), "not valid YAML: a number or escape here is out of range")


def _point(origin: Origin, mark: yaml.Mark) -> Span:
    """One character; at the end of the file, the end of the last line that has anything."""
    lines, line, column = origin.lines, mark.line, mark.column
    if line >= len(lines) or not lines[line].strip():
        line = max((i for i, text in enumerate(lines[: line + 1]) if text.strip()), default=0)
        column = len(lines[line].rstrip())
    return Span(origin, line, column, 1)


def _stray_quote(origin: Origin, mark: yaml.Mark, last: yaml.Event | None) -> Diagnostic | None:
    """A quote that was closed by the opening quote of another text, lines below."""
    if not isinstance(last, yaml.ScalarEvent) or last.style not in ("'", '"'):
        return None
    start, end = last.start_mark, last.end_mark
    if not isinstance(start, yaml.Mark) or end is None or start.line == end.line or end.line != mark.line:
        return None
    return Diagnostic(
        _point(origin, start), "the quote opened here is not closed", f"the next one comes on line {end.line + 1}"
    )


def _open_bracket(origin: Origin, mark: yaml.Mark, opened: yaml.Mark | None, closing: str) -> Diagnostic:
    if opened is None or opened.line == mark.line:
        help = "in brackets, text with `,` `:` `?` or brackets of its own goes in quotes"
        return Diagnostic(_point(origin, mark), f"`,` or `{closing}` is missing before this", help)
    opening = {"}": "{", "]": "["}[closing]
    return Diagnostic(_point(origin, opened), f"the `{opening}` opened here is not closed")


def _stray_colon(origin: Origin, mark: yaml.Mark) -> Diagnostic:
    """`:` where no key can stand: a wrong indentation, a line above without `: `, or text that needs quotes."""
    key = _KEY.fullmatch(origin.lines[mark.line][: mark.column])
    if key is None:
        return Diagnostic(_point(origin, mark), "`:` cannot stand inside a value", "text that contains `: ` goes in quotes")
    above = next((number for number in range(mark.line - 1, -1, -1) if origin.lines[number].strip()), 0)
    if tight := _TIGHT.match(origin.lines[above]):
        return Diagnostic(Span(origin, above, tight.end() - 1, 1), "a space is missing after `:`")
    span = Span(origin, mark.line, key.end(1), len(key[2]))
    help = "is it indented like the lines around it, and does the line above have its `:`?"
    return Diagnostic(span, f"the key `{key[2]}` cannot stand here", help)


def _misfit(origin: Origin, mark: yaml.Mark) -> Diagnostic:
    """Something after the end of a value, or a line in a column of its own."""
    if origin.lines[mark.line][: mark.column].strip():
        return Diagnostic(_point(origin, mark), "this does not belong to the value before it", "are quotes missing?")
    return Diagnostic(
        _point(origin, mark), "this does not line up with the lines above", "keys of one mapping start in the same column"
    )


def bad_character(text: str) -> str | None:
    """The first character that a recipe must not hold, as `U+0007`."""
    odd = _ODD.search(text)
    return f"U+{ord(odd[0]):04X}" if odd else None


def find_bad_character(origin: Origin) -> Diagnostic | None:
    """A control character in the text: most often a binary file, or a slip of the editor."""
    odd = _ODD.search(origin.text)
    if odd is None:
        return None
    before = Origin("", origin.text[: odd.start()]).lines
    span = Span(origin, len(before) - 1, len(before[-1]), 1)
    return Diagnostic(span, f"the character U+{ord(odd[0]):04X} is not allowed in a recipe", "remove it")

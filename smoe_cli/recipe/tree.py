"""A recipe as a tree whose every key and value knows where it was written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from smoe_cli.recipe.scalars import Scalar

Key = str | int
Path = tuple[Key, ...]

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what YAML counts as a line


@dataclass(frozen=True, eq=False)
class Origin:
    """A text that values come from: a file, or one `--set` flag.

    `label` is how errors name it; `order` sorts errors: the recipe first, then what it extends, then the flags.
    """

    label: str
    text: str
    order: int = 0
    flag: bool = False

    @cached_property
    def lines(self) -> list[str]:
        return _LINE_BREAK.split(self.text)


@dataclass(frozen=True)
class Span:
    """A stretch of one line of an origin. `line` and `column` count characters from 0; `width` 0 marks a point."""

    origin: Origin
    line: int
    column: int
    width: int = 0


@dataclass(frozen=True)
class Leaf:
    """A scalar."""

    value: Scalar
    span: Span
    quoted: bool = False


@dataclass(frozen=True)
class Entry:
    """One `key: value` of a mapping."""

    key: Key
    key_span: Span
    value: Tree
    cleared: bool = False
    """`null`, written over a value that was inherited."""


@dataclass(frozen=True)
class Branch:
    """A mapping. `flow` tells whether it was written in braces."""

    entries: dict[Key, Entry]
    span: Span
    flow: bool = False


@dataclass(frozen=True)
class Items:
    """A list. `flow` tells whether it was written in brackets."""

    items: tuple[Tree, ...]
    span: Span
    flow: bool = False


Tree = Leaf | Branch | Items


def to_data(tree: Tree) -> Any:
    """The plain value of a tree: dicts, tuples (which is what the models hold) and scalars."""
    match tree:
        case Leaf():
            return tree.value
        case Items():
            return tuple(to_data(item) for item in tree.items)
        case Branch():
            return {key: to_data(entry.value) for key, entry in tree.entries.items()}


def merge(base: Tree, over: Tree) -> Tree:
    """`over` on top of `base`: mappings merge key by key at every depth, `null` removes one, anything else replaces.

    Whether `null` over anything else is a value or removes the key too is for the models to say: such an entry is `cleared`.
    """
    if not (isinstance(base, Branch) and isinstance(over, Branch)):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        if removes(entry.value, below):
            del entries[key]
        else:
            entries[key] = Entry(key, entry.key_span, merge(below.value, entry.value), is_null(entry.value)) if below else entry
    return Branch(entries, over.span, over.flow)


def removes(value: Tree, old: Entry | None) -> bool:
    """Whether a value takes an inherited key away: `null` for a mapping."""
    return is_null(value) and old is not None and isinstance(old.value, Branch)


def is_null(value: Tree) -> bool:
    """Whether a value is `null`, or was left empty."""
    return isinstance(value, Leaf) and value.value is None


@dataclass(frozen=True)
class Marks:
    """Finds the place of a path in the tree it was built from."""

    root: Tree
    fallback: Span = field(repr=False)

    def locate(self, path: Sequence[Key], key: bool = False) -> Span:
        """The span of the value at `path`, or of its key.

        A path that was never written (a default, a missing key) is shown at the key of the nearest mapping around it.
        """
        here: Tree = self.root
        holder: Span | None = None  # key of the value we stand on
        for step in path:
            below = _child(here, step)
            if below is None:
                return self._stand_in(here, holder)
            here, holder = below
        if key and holder is not None:
            return holder
        return _value_span(here) or self._stand_in(here, holder)

    def _stand_in(self, tree: Tree, holder: Span | None) -> Span:
        if holder is not None:
            return holder
        if isinstance(tree, Branch) and tree.entries:
            inside = [entry.key_span for entry in tree.entries.values() if entry.key_span.origin is tree.span.origin]
            return min(inside, key=lambda span: (span.line, span.column), default=tree.span)
        return tree.span if tree.span.width else self.fallback


def _child(tree: Tree, step: Key) -> tuple[Tree, Span | None] | None:
    if isinstance(tree, Branch) and step in tree.entries:
        entry = tree.entries[step]
        return entry.value, entry.key_span
    if isinstance(tree, Items) and isinstance(step, int) and 0 <= step < len(tree.items):
        return tree.items[step], None
    return None


def _value_span(tree: Tree) -> Span | None:
    """Where to point for a value; None for one that spreads over lines or was left empty, whose key is the better place."""
    if isinstance(tree, Leaf) or tree.flow:
        return tree.span if tree.span.width else None
    return None

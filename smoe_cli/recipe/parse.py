"""YAML text → tree. Built from the parser's events, so that nesting and aliases cannot exhaust the stack or the memory.

Plain YAML only: no tags, one document, no key twice. Anchors, aliases and merge keys (`<<`) work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from smoe_cli.recipe.diagnostics import Diagnostic
from smoe_cli.recipe.scalars import resolve
from smoe_cli.recipe.syntax import bad_character, find_bad_character, out_of_range, syntax_error
from smoe_cli.recipe.tree import Branch, Entry, Items, Key, Leaf, Origin, Span, Tree

MAX_DEPTH = 40
MAX_NODES = 50_000


class Unreadable(Exception):
    """The text cannot be turned into a tree; `.diagnostic` says where and why."""

    def __init__(self, diagnostic: Diagnostic):
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def parse(origin: Origin, skip: int = 0) -> tuple[Tree | None, list[Diagnostic]]:
    """The tree of a text without its first `skip` characters (None if there is none), and the mistakes that did not prevent it.

    Raises Unreadable.
    """
    if odd := find_bad_character(origin):
        raise Unreadable(odd)
    loader = yaml.SafeLoader(" " * skip + origin.text[skip:])
    builder = _Builder(origin)
    try:
        root = builder.build(loader)
    except yaml.MarkedYAMLError as error:
        raise Unreadable(syntax_error(error, origin, builder.last)) from error
    except (ValueError, OverflowError) as error:  # PyYAML, of escapes and version numbers that are out of range
        raise Unreadable(out_of_range(loader.get_mark(), origin)) from error
    finally:
        loader.dispose()
    return root, builder.diagnostics


@dataclass(frozen=True)
class _Part:
    """A finished tree, how many values it holds when its aliases are written out, and how deep it is."""

    tree: Tree
    size: int = 1
    depth: int = 0


@dataclass
class _Frame:
    """A collection whose end has not been seen."""

    start: yaml.CollectionStartEvent
    parts: list[_Part] = field(default_factory=list)


class _Builder:
    """Turns events into trees, and notes the mistakes that do not prevent that."""

    def __init__(self, origin: Origin):
        self.origin = origin
        self.lines = origin.lines
        self.diagnostics: list[Diagnostic] = []
        self.anchors: dict[str, _Part] = {}
        self.stack: list[_Frame] = []
        self.last: yaml.Event | None = None

    def build(self, loader: yaml.SafeLoader) -> Tree | None:
        root: Tree | None = None
        documents = values = 0
        while loader.check_event():
            event = self.last = loader.get_event()
            part: _Part | None = None
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.stop(event, "a second document starts here", "a recipe is one document: remove this line")
            elif isinstance(event, yaml.CollectionStartEvent):
                self.refuse_tag(event)
                self.stack.append(_Frame(event))
                self.limit_depth(event, 0)
            elif isinstance(event, yaml.CollectionEndEvent):
                part = self.close(self.stack.pop(), event)
            elif isinstance(event, yaml.ScalarEvent):
                part = _Part(self.leaf(event))
                if event.anchor:
                    self.anchors[event.anchor] = part
            elif isinstance(event, yaml.AliasEvent):
                part = self.alias(event)
                self.limit_depth(event, part.depth)
            if part is None:
                continue
            values += part.size if isinstance(event, yaml.AliasEvent) else 1
            if values > MAX_NODES:
                raise self.stop(event, f"too large: more than {MAX_NODES:,} values, counting what aliases stand for")
            if self.stack:
                self.stack[-1].parts.append(part)
            else:
                root = part.tree
        return root

    # ------------------------------------------------------------------------------------------------------- places

    def span(self, event: yaml.Event, end: yaml.Event | None = None) -> Span:
        """From the start of an event to its end (or to the end of another), on the first line."""
        start, stop = event.start_mark, (end or event).end_mark
        assert start is not None
        assert stop is not None
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        column = stop.column if stop.line == start.line else len(line.rstrip())
        return Span(self.origin, start.line, start.column, max(column - start.column, 0))

    def stop(self, event: yaml.Event, message: str, help: str | None = None) -> Unreadable:
        return Unreadable(Diagnostic(self.span(event), message, help))

    def note(self, span: Span, message: str, help: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(span, message, help))

    def limit_depth(self, event: yaml.Event, below: int) -> None:
        if len(self.stack) + below > MAX_DEPTH:
            raise self.stop(event, f"nested more than {MAX_DEPTH} deep")

    # ------------------------------------------------------------------------------------------------------- values

    def refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is None:
            return
        start = self.span(event)
        span = Span(self.origin, start.line, start.column, len(self.lines[start.line][start.column :].split(" ")[0]))
        self.note(span, "tags (`!…`) have no meaning in a recipe", "remove it; text that looks like a number goes in quotes")

    def leaf(self, event: yaml.ScalarEvent) -> Leaf:
        self.refuse_tag(event)
        span = self.span(event)
        if not event.style:
            return Leaf(resolve(event.value), span)
        if odd := bad_character(event.value):
            self.note(span, f"this text holds the character {odd}, which is not allowed")
        return Leaf(event.value, span, quoted=True)

    def alias(self, event: yaml.AliasEvent) -> _Part:
        if event.anchor in self.anchors:
            return self.anchors[event.anchor]
        if any(frame.start.anchor == event.anchor for frame in self.stack):
            raise self.stop(event, f"the alias `*{event.anchor}` stands inside what it refers to")
        raise self.stop(event, f"nothing above is named `&{event.anchor}`", "text that starts with `*` goes in quotes")

    def close(self, frame: _Frame, end: yaml.Event) -> _Part:
        flow = bool(frame.start.flow_style)
        span = self.span(frame.start, end if flow else None)
        children = [part.tree for part in frame.parts]
        tree: Tree
        if isinstance(frame.start, yaml.SequenceStartEvent):
            tree = Items(tuple(children), span, flow)
        else:
            tree = self.mapping(children, span, flow)
        size = 1 + sum(part.size for part in frame.parts)
        part = _Part(tree, size, 1 + max((part.depth for part in frame.parts), default=0))
        if frame.start.anchor:
            self.anchors[frame.start.anchor] = part
        return part

    # ----------------------------------------------------------------------------------------------------- mappings

    def mapping(self, children: list[Tree], span: Span, flow: bool) -> Branch:
        entries: dict[Key, Entry] = {}
        inherited: list[Branch] = []
        for key_tree, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key_tree, Leaf):
                self.note(key_tree.span, "a key cannot be a list or a mapping", "are quotes missing around `{…}` or `[…]`?")
            elif key_tree.value == "<<" and not key_tree.quoted:
                inherited += self.merged(value, key_tree.span)
            elif (key := self.key(key_tree)) in entries:
                first = entries[key].key_span.line + 1
                self.note(key_tree.span, f"duplicate key `{key}`", f"it is already given on line {first}")
            else:
                entries[key] = Entry(key, key_tree.span, value)
        for branch in inherited:
            for key, entry in branch.entries.items():
                entries.setdefault(key, entry)
        return Branch(entries, span, flow)

    def merged(self, value: Tree, span: Span) -> list[Branch]:
        given = value.items if isinstance(value, Items) else (value,)
        branches = [tree for tree in given if isinstance(tree, Branch)]
        if len(branches) < len(given):
            self.note(span, "the merge key `<<` takes a mapping, or a list of mappings", "write `<<: *name`")
        return branches

    def key(self, leaf: Leaf) -> Key:
        """Keys are text, or whole numbers (steps); any other word is taken as it is spelt."""
        if isinstance(leaf.value, str) or type(leaf.value) is int:
            return leaf.value
        start = leaf.span
        return self.lines[start.line][start.column : start.column + start.width]

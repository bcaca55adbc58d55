"""`--set a.b.0.c=value`: one value of the tree replaced from the command line.

The models say how a path is read: a number is an index in a list; where free keys hold plain values (`learning_rate`,
`mixture`, a shield's `factor`) the whole rest of the path is the key, dots included: `phases.0.learning_rate.experts.*=1e-4`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from smoe_cli.recipe.diagnostics import Diagnostic, RecipeError
from smoe_cli.recipe.models import Recipe
from smoe_cli.recipe.parse import Unreadable, parse
from smoe_cli.recipe.scalars import resolve
from smoe_cli.recipe.shapes import Choice, Fixed, Many, Model, Plain, Shape, Table, Words, child
from smoe_cli.recipe.tree import Branch, Entry, Items, Key, Leaf, Origin, Span, Tree, is_null, removes, to_data
from smoe_cli.recipe.words import count

_ORDER = 1_000_000  # mistakes in flags are listed after those in files
_FORM = "write `--set path.to.key=value`"


@dataclass(frozen=True)
class _Step:
    """One part of a path and where it stands in the flag."""

    text: str
    span: Span


def apply(tree: Branch, overrides: Iterable[str]) -> tuple[Branch, list[Diagnostic]]:
    """The tree after every override in turn, and the mistakes in overrides that had to be left out."""
    diagnostics: list[Diagnostic] = []
    for number, text in enumerate(overrides):
        shown = "".join(c if c.isprintable() else " " for c in text)
        origin = Origin(f"--set {shown if len(shown) <= 80 else shown[:79] + '…'}", text, _ORDER + number, flag=True)
        try:
            steps, value, notes = _read(origin)
            diagnostics += notes
            below = _put(tree, Model(Recipe), steps, value, "")
        except Unreadable as error:
            diagnostics.append(error.diagnostic)
            continue
        assert isinstance(below, Branch)
        tree = below
    return tree, diagnostics


def _stop(span: Span, message: str, help: str | None = None) -> Unreadable:
    return Unreadable(Diagnostic(span, message, help))


def _read(origin: Origin) -> tuple[list[_Step], Tree, list[Diagnostic]]:
    """The path and the value of one flag. Raises Unreadable."""
    left, equals, right = origin.text.partition("=")
    if not equals or not left.isprintable():
        raise _stop(Span(origin, 0, 0, len(origin.lines[0])), "a path, `=` and a value are expected", _FORM)
    steps: list[_Step] = []
    column = 0
    for part in left.split("."):
        steps.append(_Step(part.strip(), Span(origin, 0, column, len(part))))
        column += len(part) + 1
        if not part.strip():
            raise _stop(steps[-1].span, "a part of the path is empty", _FORM)
    if steps[0].text == "extends":
        raise _stop(steps[0].span, "`extends` can only be written in a file")
    value, notes = parse(origin, skip=len(left) + 1)
    return steps, value or Leaf(None, Span(origin, 0, len(left) + 1, len(right))), notes


def plain_value(text: str, skip: int) -> Any:
    """The YAML value that stands in `text` after its first `skip` characters, as plain data. Raises RecipeError."""
    origin = Origin(f"--set {text}", text, _ORDER, flag=True)
    try:
        value, _ = parse(origin, skip)
    except Unreadable as error:
        raise RecipeError([error.diagnostic]) from None
    return None if value is None else to_data(value)


def _put(tree: Tree | None, shape: Shape | None, steps: Sequence[_Step], value: Tree, above: str) -> Tree:
    """`tree` (None: not written) with `value` at the end of `steps`; `above` is the path so far. Raises Unreadable."""
    if not steps:
        return value
    if isinstance(shape, Choice):
        shape = _container(shape, tree)
    if isinstance(shape, Table) and isinstance(shape.value, Plain | Words):
        steps = [_joined(steps)]
    step, *rest = steps
    here = f"{above}.{step.text}".lstrip(".")
    if isinstance(tree, Items):
        return _put_item(tree, shape, step, rest, value, above)
    if tree is None and isinstance(shape, Many | Fixed):
        raise _stop(step.span, f"`{above}` is not written in the recipe", f"set the whole list: `--set {above}=[…]`")
    key: Key = step.text
    if isinstance(shape, Table) and isinstance(shape.key, Plain) and shape.key.type is int:
        number = resolve(step.text)
        key = number if type(number) is int else step.text
    entries = dict(tree.entries) if isinstance(tree, Branch) else {}
    old = entries.get(key)
    if not rest and removes(value, old):
        del entries[key]
        assert isinstance(tree, Branch)
        return Branch(entries, tree.span, tree.flow)
    below = child(shape, key, to_data(tree) if tree else None)
    new = _put(old.value if old else None, below, rest, value, here)
    inside = rest and old and not isinstance(old.value, Leaf)
    cleared = not rest and old is not None and is_null(value)
    entries[key] = Entry(key, old.key_span if old and inside else step.span, new, cleared)
    return Branch(entries, tree.span, tree.flow) if isinstance(tree, Branch) else Branch(entries, step.span)


def _put_item(tree: Items, shape: Shape | None, step: _Step, rest: Sequence[_Step], value: Tree, above: str) -> Tree:
    index = int(step.text) if step.text.isdecimal() and len(step.text) < 10 else None
    if index is None or index >= len(tree.items):
        last = len(tree.items) - 1
        known = f"entries are numbered from 0{f' to {last}' if last > 0 else ''}" if tree.items else None
        raise _stop(step.span, f"`{above}` has {count(len(tree.items), 'entry')}, no entry `{step.text}`", known)
    items = list(tree.items)
    items[index] = _put(items[index], child(shape, index), rest, value, f"{above}.{index}")
    return Items(tuple(items), tree.span, tree.flow)


def _joined(steps: Sequence[_Step]) -> _Step:
    """Several steps as one key with dots in it."""
    first, last = steps[0].span, steps[-1].span
    span = Span(first.origin, first.line, first.column, last.column + last.width - first.column)
    return _Step(".".join(step.text for step in steps), span)


def _container(shape: Choice, tree: Tree | None) -> Shape | None:
    """The branch of a choice that can be stepped into."""
    kinds = (Many, Table, Model) if isinstance(tree, Items) else (Table, Model, Many)
    return next((branch for kind in kinds for branch in shape.branches if isinstance(branch, kind)), None)

"""Reading a recipe and the recipes it extends."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.recipe.diagnostics import Diagnostic, RecipeError
from smoe_cli.recipe.parse import Unreadable, parse
from smoe_cli.recipe.tree import Branch, Leaf, Origin, Span, Tree, merge, to_data
from smoe_cli.recipe.words import found, nearest

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Document:
    """The text of the recipe itself, and its tree on top of those it extends."""

    text: str
    tree: Branch
    start: Span
    diagnostics: tuple[Diagnostic, ...]


def read(path: Path) -> Document:
    """Raises RecipeError if there is no tree to go on with: a missing file, broken YAML, a cycle of `extends`."""
    return _read(str(path), path, None, ())


def _read(label: str, path: Path, wanted: Span | None, above: tuple[tuple[str, str], ...]) -> Document:
    """`label` names the file in errors, `wanted` is the `extends` that asks for it, `above` (identity, label) of the askers."""
    identity = os.path.realpath(path) if "\0" not in str(path) else ""
    chain = [name for _, name in above] + [label]
    if identity in (seen for seen, _ in above):
        raise RecipeError([Diagnostic(wanted or Origin(label, ""), f"`extends` goes in a circle: {' → '.join(chain)}")])
    text = _decode(label, path, wanted, order=len(above))
    origin = Origin(label, text, order=len(above))
    try:
        tree, diagnostics = parse(origin)
    except Unreadable as error:
        raise RecipeError([error.diagnostic]) from error
    if tree is None or (isinstance(tree, Leaf) and tree.value is None):
        raise RecipeError([Diagnostic(origin, "the file is empty", "a recipe starts with `kind: smoe/recipe`")])
    start = Span(origin, 0, 0)
    if not isinstance(tree, Branch):
        message = f"a recipe is a mapping of `key: value` lines, not {found(to_data(tree))}"
        raise RecipeError([Diagnostic(tree.span, message, "it starts with `kind: smoe/recipe`"), *diagnostics])
    entry = tree.entries.get("extends")
    if entry is None:
        return Document(text, tree, start, tuple(diagnostics))
    rest = Branch({key: value for key, value in tree.entries.items() if key != "extends"}, tree.span, tree.flow)
    target = _target(entry.value, entry.key_span)
    if isinstance(target, Diagnostic):
        return Document(text, rest, start, (*diagnostics, target))
    base = _read(_join(label, target), path.parent / target, entry.value.span, (*above, (identity, label)))
    merged = merge(base.tree, rest)
    assert isinstance(merged, Branch)
    return Document(text, merged, start, (*diagnostics, *base.diagnostics))


def _target(tree: Tree, key: Span) -> str | Diagnostic:
    value = tree.value if isinstance(tree, Leaf) else None
    if isinstance(value, str) and value and "\0" not in value:
        return value
    where = tree.span if tree.span.width and isinstance(tree, Leaf) else key
    return Diagnostic(where, f"`extends` takes the path of one recipe, relative to this file, not {found(to_data(tree))}")


def _join(label: str, target: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(label), target))


def _decode(label: str, path: Path, wanted: Span | None, order: int) -> str:
    """The text of a file. Raises RecipeError, placed at the `extends` that asked for the file if there is one."""
    where = wanted or Origin(label, "", order)
    named = f"`{label}`" if wanted else "this"
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = f"{named} does not exist" if wanted else "no such file"
        raise RecipeError([Diagnostic(where, message, _neighbour(label, path))]) from None
    except IsADirectoryError:
        raise RecipeError([Diagnostic(where, f"{named} is a folder, not a recipe", _contents(label, path))]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecipeError([Diagnostic(where, f"{named} cannot be read: {reason}")]) from None
    if len(raw) > MAX_BYTES:
        raise RecipeError([Diagnostic(where, f"{named} is larger than {MAX_BYTES:,} bytes: not a recipe")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        origin = Origin(label, raw.decode("utf-8-sig", errors="replace"), order)
        lines = Origin("", before).lines
        span = Span(origin, len(lines) - 1, len(lines[-1]), 1)
        message = f"not UTF-8: the byte 0x{raw[error.start]:02X} cannot stand here"
        raise RecipeError([Diagnostic(span, message, "save the file as UTF-8")]) from None


def _neighbour(label: str, path: Path) -> str | None:
    """A file of the same folder with a similar name."""
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.endswith((".yaml", ".yml"))]
    except (OSError, ValueError):
        return None
    guess = nearest(path.name, sorted(names))
    return f"did you mean `{os.path.join(os.path.dirname(label), guess)}`?" if guess else None


def _contents(label: str, path: Path) -> str | None:
    names = sorted(entry.name for entry in os.scandir(path) if entry.name.endswith((".yaml", ".yml")))[:5]
    return f"it holds {', '.join(f'`{os.path.join(label, name)}`' for name in names)}" if names else None

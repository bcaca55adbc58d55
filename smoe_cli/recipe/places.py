"""Where in a recipe one of pydantic's errors is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smoe_cli.recipe.shapes import Choice, Shape, Table, Tagged, child
from smoe_cli.recipe.tree import Key


@dataclass(frozen=True)
class Place:
    """Where an error is: path, shape and value; `holder` and `around` are the shape and the value one step up.

    `union`: what the holder was one option of. `key`: the error is about the key.
    """

    path: tuple[Key, ...]
    shape: Shape | None
    holder: Shape | None
    around: Any
    value: Any
    key: bool = False
    union: Tagged | None = None


def place_of(steps: Sequence[Key], root: Shape, data: Any, base: tuple[Key, ...] = ()) -> Place:
    """Follows pydantic's location down the shapes and the data. `base` is the path of `root`.

    A location also names the tags of tagged mappings, which are no part of the path, and the branches of a choice, at which
    the way ends.
    """
    shape: Shape | None = root
    holder: Shape | None = None
    value: Any = data
    around: Any = None
    entered: Tagged | None = None
    union: Tagged | None = None
    path: list[Key] = list(base)
    location = list(steps)
    while location:
        if isinstance(shape, Tagged):
            entered, shape = shape, shape.options.get(str(location.pop(0)))
            continue
        if isinstance(shape, Choice):
            break
        step = location.pop(0)
        path.append(step)
        holder, around, union, entered = shape, value, entered, None
        if location[:1] == ["[key]"] and isinstance(shape, Table):
            return Place(tuple(path), shape.key, holder, around, step, key=True)
        shape, value = child(shape, step, value), _inside(value, step)
    return Place(tuple(path), shape, holder, around, value, union=union)


def _inside(value: Any, step: Key) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, tuple) and isinstance(step, int) and step < len(value) else None

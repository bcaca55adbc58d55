"""The recipe's models as shapes: what errors, overrides and suggestions need to know about the place they speak of."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from smoe_cli.recipe.nodes import fields_of
from smoe_cli.recipe.words import one_of


@dataclass(frozen=True)
class Model:
    """A mapping with known keys."""

    cls: type[BaseModel]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(fields_of(self.cls))

    def child(self, key: object) -> Shape | None:
        info = fields_of(self.cls).get(key) if isinstance(key, str) else None
        return _shape(info.annotation, (info,)) if info else None


@dataclass(frozen=True)
class Tagged:
    """A mapping whose keys depend on the value of one of them."""

    tag: str
    options: dict[str, Model]


@dataclass(frozen=True)
class Choice:
    """Values of different shapes, told apart by looking at them."""

    branches: tuple[Shape, ...]
    annotations: tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """A mapping with free keys."""

    key: Shape
    value: Shape


@dataclass(frozen=True)
class Many:
    """A list of any length."""

    item: Shape


@dataclass(frozen=True)
class Fixed:
    """A list of known length. `meaning` names the entries, as in `[height, width] in pixels`."""

    items: tuple[Shape, ...]
    meaning: str | None


@dataclass(frozen=True)
class Words:
    """One of a few words."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Plain:
    """Text, a number, or true/false. `limits` are the bounds, by the names of pydantic (gt, ge, lt, le)."""

    type: type
    limits: dict[str, float] = field(default_factory=dict)


Shape = Model | Tagged | Choice | Table | Many | Fixed | Words | Plain


def _shape(annotation: Any, info: tuple[Any, ...] = ()) -> Shape:
    """The shape of an annotation; `info` is what `Annotated` or the field adds to it. Optional is left out."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _shape(inner, (*info, *more))
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        options = [option for option in args if option is not type(None)]
        if len(options) == 1:
            return _shape(options[0], info)
        tag = next((extra.discriminator for extra in info if isinstance(extra, FieldInfo) and extra.discriminator), None)
        if isinstance(tag, str):
            return Tagged(tag, {name: Model(option) for option in options for name in _words(fields_of(option)[tag])})
        return Choice(tuple(_shape(option) for option in options), tuple(options))
    if origin is Literal:
        return Words(args)
    if origin is dict:
        return Table(_shape(args[0]), _shape(args[1]))
    if origin is tuple:
        if args[-1] is Ellipsis:
            return Many(_shape(args[0]))
        meaning = next(
            (extra.description for extra in reversed(info) if isinstance(extra, FieldInfo) and extra.description), None
        )
        return Fixed(tuple(_shape(arg) for arg in args), meaning if meaning and meaning.startswith("[") else None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Model(annotation)
    return Plain(annotation, dict(_limits(info)))


def _words(info: FieldInfo) -> tuple[str, ...]:
    return get_args(info.annotation)


def _limits(info: tuple[Any, ...]) -> Iterator[tuple[str, float]]:
    for extra in info:
        for bound in extra.metadata if isinstance(extra, FieldInfo) else (extra,):
            yield from ((name, getattr(bound, name)) for name in ("gt", "ge", "lt", "le") if hasattr(bound, name))


def child(shape: Shape | None, key: object, value: Any = None) -> Shape | None:
    """The shape one step down; `value` is the mapping stepped into, whose tag decides. None where nothing may stand."""
    match shape:
        case Model():
            return shape.child(key)
        case Tagged():
            option = tagged(shape, value)
            return option.child(key) if option else None
        case Table():
            return shape.value
        case Many():
            return shape.item
        case Fixed():
            return shape.items[key] if isinstance(key, int) and 0 <= key < len(shape.items) else None
    return None


def tagged(shape: Tagged, value: Any) -> Model | None:
    """The option that a mapping's tag names."""
    tag = value.get(shape.tag) if isinstance(value, dict) else None
    return shape.options.get(tag) if isinstance(tag, str) else None


# ------------------------------------------------------------------------------------------------------- in words


def describe(shape: Shape) -> str:
    """What is expected here, as a noun phrase: a whole number of 1 or more, a list of texts, `a` or `b`, …"""
    match shape:
        case Words():
            return one_of([str(value) for value in shape.values])
        case Plain():
            return _plain(shape, "a ", "")
        case Many():
            return f"a list of {_several(shape.item)}"
        case Fixed():
            if shape.meaning:
                return re.sub(r"(\[.*?\])", r"`\1`", shape.meaning)
            kinds = {_several(item) for item in shape.items}
            entries = kinds.pop() if len(kinds) == 1 else "values"
            return f"a list of {len(shape.items)} {entries}"
        case Choice():
            *most, last = [describe(branch) for branch in shape.branches]
            return f"{', '.join(most)} or {last}"
        case Table():
            return f"a mapping from {_several(shape.key)} to {_several(shape.value)}"
        case Tagged():
            return f"a mapping with `{shape.tag}`"
    return "a mapping"


def _several(shape: Shape) -> str:
    match shape:
        case Words():
            return f"words out of {', '.join(f'`{value}`' for value in shape.values)}"
        case Plain():
            return _plain(shape, "", "s")
        case Many():
            return f"lists of {_several(shape.item)}"
    return "mappings"


def _plain(shape: Plain, article: str, plural: str) -> str:
    if shape.type is bool:
        return "`true` or `false`"
    if shape.type is str:
        return "texts" if plural else "text"
    noun = f"{article}{'whole number' if shape.type is int else 'number'}{plural}"
    low, above = shape.limits.get("ge"), shape.limits.get("gt")
    high, below = shape.limits.get("le"), shape.limits.get("lt")
    if shape.type is int:
        low = above + 1 if above is not None else low
        high = below - 1 if below is not None else high
        above = below = None
    bounds = []
    if low is not None and high is not None:
        return f"{noun} from {low:,g} to {high:,.0f}" if high >= 1e6 else f"{noun} from {low:g} to {high:g}"
    bounds += [f"of {low:g} or more"] if low is not None else []
    bounds += [f"above {above:g}"] if above is not None else []
    bounds += [f"up to {high:g}"] if high is not None else []
    bounds += [f"below {below:g}"] if below is not None else []
    return " ".join([noun, " and ".join(bounds)]) if bounds else noun


# ------------------------------------------------------------------------------------------------- where keys live


@cache
def homes(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Every key of the language and the mappings that have it, as paths with `*` for a name or an index."""
    found: dict[str, list[str]] = {}

    def walk(shape: Shape | None, path: str) -> None:
        match shape:
            case Model():
                for key in shape.keys:
                    places = found.setdefault(key, [])
                    if path not in places:
                        places.append(path)
                    walk(shape.child(key), f"{path}.{key}" if path else key)
            case Tagged():
                for option in shape.options.values():
                    walk(option, path)
            case Table():
                walk(shape.value, f"{path}.*")
            case Many():
                walk(shape.item, f"{path}.*")
            case Choice():
                for branch in shape.branches:
                    walk(branch, path)

    walk(Model(model), "")
    return {key: tuple(places) for key, places in found.items()}

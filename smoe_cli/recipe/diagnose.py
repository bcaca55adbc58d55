"""pydantic's errors → problems: one for each mistake, at the right key or value, in the words of the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.hints import name_help, suggest
from smoe_cli.recipe.nodes import fields_of
from smoe_cli.recipe.places import Place, place_of
from smoe_cli.recipe.shapes import Choice, Fixed, Many, Model, Plain, Shape, Table, Tagged, Words, describe, homes
from smoe_cli.recipe.tree import Key
from smoe_cli.recipe.words import all_of, found, nearest, one_of, quote, similar


def validate(model: type[BaseModel], data: Any) -> tuple[Any, list[Problem]]:
    """The model built from plain data and no problems, or None and every problem.

    Strict: a number in quotes is text, `yes` is text, 1 is not true. Where a tag (`kind`, `task`) is misspelt, its mapping is
    read as what was probably meant, so that its other mistakes are found in the same go.
    """
    problems: dict[Problem, None] = {}
    while True:
        try:
            built = model.model_validate(data, strict=True)
        except ValidationError as error:
            reader = _Reader(model, data)
            problems.update(dict.fromkeys(reader.problems(error.errors(include_url=False))))
            if not reader.guesses:
                return None, list(problems)
            for path, tag, value in reader.guesses:
                data = _with(data, (*path, tag), value)
        else:
            return (None, list(problems)) if problems else (built, [])


def _with(data: Any, path: Sequence[Key], value: Any) -> Any:
    """A copy of nested dicts and tuples with one value replaced or added."""
    if not path:
        return value
    step, *rest = path
    if isinstance(data, dict):
        return {**data, step: _with(data.get(step), rest, value)}
    return tuple(_with(item, rest, value) if index == step else item for index, item in enumerate(data))


class _Reader:
    """Reads the errors of one validation of `data`, whose shape is `shape` and whose path is `base`.

    `guesses`: tags that were misspelt, as (path of the mapping, tag, what was meant).
    """

    def __init__(self, model: type[BaseModel], data: Any, shape: Shape | None = None, base: tuple[Key, ...] = ()):
        self.model, self.data, self.base = model, data, base
        self.root: Shape = shape or Model(model)
        self.guesses: list[tuple[tuple[Key, ...], str, str]] = []

    def problems(self, errors: Sequence[ErrorDetails]) -> list[Problem]:
        problems: list[Problem] = []
        missing: dict[tuple[Key, ...], list[str]] = {}
        holders: dict[tuple[Key, ...], Shape | None] = {}
        supposed: set[tuple[Key, ...]] = set()  # missing keys that an unknown key was meant to be
        choices: set[tuple[Key, ...]] = set()
        for error in errors:
            place = place_of(error["loc"], self.root, self.data, self.base)
            if error["type"] == "too_short" and place.value:
                continue  # pydantic counts the entries that are left without the broken ones, of which it has told
            if isinstance(place.shape, Choice):
                if place.path not in choices:
                    choices.add(place.path)
                    problems += self.choice(place.shape, place.path, place.value)
            elif error["type"] == "missing" and isinstance(place.holder, Model):
                missing.setdefault(place.path[:-1], []).append(str(place.path[-1]))
                holders[place.path[:-1]] = place.holder
            elif error["type"] == "union_tag_not_found":
                problems.append(self.no_tag(place, supposed))
            elif error["type"] in ("extra_forbidden", "invalid_key"):
                problems.append(self.unknown_key(place, supposed))
            else:
                problems.append(self.wrong_value(place, error))
        for path, keys in missing.items():
            keys = [key for key in keys if (*path, key) not in supposed]
            if keys:
                problems.append(_lacking(path, keys, holders[path]))
        return problems

    def choice(self, shape: Choice, path: tuple[Key, ...], value: Any) -> list[Problem]:
        """One account of a value that fits no branch: the errors of the branch it comes nearest to."""
        accounts: list[list[Problem]] = []
        for branch, annotation in zip(shape.branches, shape.annotations, strict=True):
            if not _same_kind(branch, value):
                continue
            try:
                _adapter(annotation).validate_python(value, strict=True)
            except ValidationError as error:
                accounts.append(_Reader(self.model, value, branch, path).problems(error.errors(include_url=False)))
        if not accounts:
            return [Problem(path, f"expected {describe(shape)}, found {found(value)}", suggest(shape, value))]
        return min(accounts, key=lambda account: (len(account), -max(len(problem.path) for problem in account)))

    def no_tag(self, place: Place, supposed: set[tuple[Key, ...]]) -> Problem:
        assert isinstance(place.shape, Tagged)
        tag, options = place.shape.tag, list(place.shape.options)
        known = {key for option in place.shape.options.values() for key in option.keys}
        slip = next((key for key in place.value if key not in known and nearest(key, [tag])), None)
        path = place.path
        if slip is not None:
            supposed.add((*path, tag))
            return Problem((*path, slip), f"unknown key {quote(str(slip))}", f"did you mean `{tag}`?", key=True)
        return Problem(path, f"{_named(path)} lacks the key `{tag}`", f"`{tag}` is {one_of(options)}", key=True)

    def unknown_key(self, place: Place, supposed: set[tuple[Key, ...]]) -> Problem:
        name = place.path[-1]
        message = f"unknown key {quote(str(name))}"
        holder = place.holder
        assert isinstance(holder, Model)
        absent = [key for key in holder.keys if key not in place.around]
        guess = nearest(name, absent) or nearest(name, holder.keys)
        if guess in absent:
            supposed.add((*place.path[:-1], guess))
        help = self.whereabouts(str(name), holder, place, guess)
        options = place.union.options.values() if place.union else ()
        tag = place.union.tag if place.union and any(name in option.keys for option in options) else None
        return Problem(place.path, message, help, key=True, tag=tag)

    def whereabouts(self, name: str, holder: Model, place: Place, guess: str | None) -> str:
        """Help for an unknown key: the key of the same name in another place, the nearest key here, or all keys here."""
        if place.union and (kinds := [kind for kind, option in place.union.options.items() if name in option.keys]):
            return f"`{name}` is a key of {place.union.tag} {one_of(kinds)}"
        elsewhere = [home or "the top level" for home in homes(self.model).get(name, ())]
        if elsewhere and (guess is None or not similar(name, guess)):
            return f"`{name}` is a key of {all_of(elsewhere)}"
        if guess:
            return f"did you mean `{guess}`?"
        return f"the keys here are {', '.join(f'`{key}`' for key in holder.keys)}"

    def wrong_tag(self, place: Place) -> Problem:
        assert isinstance(place.shape, Tagged)
        tag, options = place.shape.tag, list(place.shape.options)
        given = place.value[tag]
        guess = nearest(given, options) if isinstance(given, str) else None
        if guess:
            self.guesses.append((place.path[len(self.base) :], tag, guess))
        help = f"did you mean `{guess}`?" if guess else None
        return Problem((*place.path, tag), f"expected {one_of(options)}, found {found(given)}", help)

    def wrong_value(self, place: Place, error: ErrorDetails) -> Problem:
        kind, shape, value = error["type"], place.shape, place.value
        if kind == "union_tag_invalid":
            return self.wrong_tag(place)
        if kind == "string_pattern_mismatch" and (part := _part_of(error["ctx"]["pattern"])):
            return Problem(place.path, f"expected a text with `{part}` in it, found {found(value)}")
        if kind == "string_pattern_mismatch":
            return Problem(place.path, f"{quote(value)} is not a name", name_help(value), place.key)
        if kind == "string_too_long":
            limit = error.get("ctx", {}).get("max_length")
            return Problem(place.path, f"a name has {limit} characters at most, this one has {len(value)}", key=place.key)
        if kind == "missing" and isinstance(place.holder, Fixed):
            return Problem(place.path[:-1], f"expected {describe(place.holder)}, found {found(place.around)}")
        if kind == "too_short":
            return Problem(place.path, "at least one entry is needed, this is empty")
        if shape is None or not (kind in _ANSWERED or kind.endswith("_type")):
            return Problem(place.path, error["msg"][:1].lower() + error["msg"][1:], key=place.key)
        subject = "expected as key: " if place.key else "expected "
        return Problem(place.path, f"{subject}{describe(shape)}, found {found(value)}", suggest(shape, value), place.key)


_BOUNDS = {"too_long", "greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
_ANSWERED = {"int_from_float", "literal_error", *_BOUNDS}
"""With those that end in `_type`: errors whose account is what is expected and what was found; others keep pydantic's words."""


def _part_of(pattern: str) -> str | None:
    """What a text must hold somewhere, of a pattern that says no more than that: `\\{x\\}` → `{x}`."""
    return None if pattern.startswith("^") else pattern.replace("\\", "")


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _named(path: tuple[Key, ...]) -> str:
    return f"`{'.'.join(map(str, path))}`" if path else "the recipe"


def _lacking(path: tuple[Key, ...], keys: list[str], holder: Shape | None) -> Problem:
    noun = "key" if len(keys) == 1 else "keys"
    help = None
    if len(keys) == 1 and isinstance(holder, Model):
        about = fields_of(holder.cls)[keys[0]].description
        help = f"`{keys[0]}`: {' '.join(about.split())}" if about else None
    return Problem(path, f"{_named(path)} lacks the {noun} {all_of(keys)}", help, key=True)


def _same_kind(branch: Shape, value: Any) -> bool:
    match branch:
        case Many() | Fixed():
            return isinstance(value, tuple)
        case Table() | Model() | Tagged():
            return isinstance(value, dict)
        case Words():
            return isinstance(value, str)
        case Plain():
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            return numeric if branch.type in (int, float) else isinstance(value, branch.type)
    return False

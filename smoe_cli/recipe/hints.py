"""What was probably meant by a value that does not fit."""

from __future__ import annotations

import re
from typing import Any

from smoe_cli.recipe.nodes import fields_of
from smoe_cli.recipe.shapes import Choice, Fixed, Many, Model, Plain, Shape, Tagged, Words
from smoe_cli.recipe.words import nearest


def suggest(shape: Shape, value: Any) -> str | None:
    """What was probably meant, where that can be told from the value."""
    if isinstance(shape, Choice):
        return next((help for branch in shape.branches if (help := suggest(branch, value))), None)
    if isinstance(shape, Words) and isinstance(value, str):
        guess = nearest(value, [str(word) for word in shape.values])
        return f"did you mean `{guess}`?" if guess else None
    if isinstance(shape, Many | Fixed) and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"a list goes in brackets: `[{value}]`" if isinstance(shape, Many) else None
    if isinstance(shape, Tagged) and isinstance(value, str) and (guess := nearest(value, shape.options)):
        return f"did you mean `{{{shape.tag}: {guess}}}`?"
    if isinstance(shape, Model) and isinstance(value, str) and (word := _only_word(shape)):
        return f"did you mean `{{{word[0]}: {word[1]}}}`?"
    if isinstance(shape, Model) and isinstance(value, str) and (key := _only_text(shape)):
        return f"did you mean `{{{key}: {value}}}`?"
    if isinstance(shape, Model) and value is None:
        return f"its keys stand below it, indented: {', '.join(f'`{key}`' for key in shape.keys)}"
    if isinstance(shape, Plain):
        return _plain_help(shape, value)
    return None


def _only_word(shape: Model) -> tuple[str, str] | None:
    """The key and value of a mapping that has one key with one possible value."""
    inner = shape.child(shape.keys[0]) if len(shape.keys) == 1 else None
    return (shape.keys[0], str(inner.values[0])) if isinstance(inner, Words) and len(inner.values) == 1 else None


def _only_text(shape: Model) -> str | None:
    """The key that a mapping cannot do without, if there is one, and it is text."""
    required = [key for key, info in fields_of(shape.cls).items() if info.is_required()]
    inner = shape.child(required[0]) if len(required) == 1 else None
    return required[0] if isinstance(inner, Plain) and inner.type is str else None


def _plain_help(shape: Plain, value: Any) -> str | None:
    if shape.type is str and isinstance(value, int | float):
        return "text that looks like a number, `true` or `false` goes in quotes"
    if not isinstance(value, str):
        return None
    if shape.type is bool and value.lower() in ("yes", "on", "y", "no", "off", "n", "true", "false"):
        return f"did you mean `{'true' if value.lower() in ('yes', 'on', 'y', 'true') else 'false'}`?"
    if shape.type in (int, float):
        return _number_help(value)
    return None


def _number_help(text: str) -> str | None:
    bare = text.strip()
    if bare.isdecimal() and bare.startswith("0") and bare.strip("0"):
        return f"did you mean `{bare.lstrip('0')}`? numbers are written without leading zeros or quotes"
    try:
        float(bare.replace(",", ""))
    except ValueError:
        return None
    return f"did you mean `{bare.replace(',', '')}`? numbers are written without quotes or commas"


def name_help(text: str) -> str:
    """A name close to a text that is none, and the rule."""
    guess = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")
    hint = f"did you mean `{guess}`? " if re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", guess) else ""
    return hint + "names are lower-case letters, digits, `-` and `_`, and start with a letter"

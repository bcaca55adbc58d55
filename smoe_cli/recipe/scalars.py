"""What an unquoted word in a recipe means: YAML 1.2's core schema, without the traps of YAML 1.1.

`yes`, `no`, `on`, `off`, `1:30` and `012` are text; `2e-5`, `1e6` and `3_000` are numbers. A number without a fractional
part is an int, so that `1e6` may be written where an integer is wanted.
"""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_DIGITS = r"\d+(?:_\d+)*"
# A leading zero is octal to YAML 1.1 and decimal to 1.2: such a word is left as text.
_INTEGER = re.compile(rf"[-+]?(?:0|(?!0){_DIGITS})", re.ASCII)
_BASED = re.compile(r"0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}")
_DECIMAL = re.compile(rf"[-+]?(?:\.{_DIGITS}|(?:0|(?!0){_DIGITS})(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?\d+)?", re.ASCII)

_LARGEST_EXACT = 2**53
_LARGEST_INTEGER = 2**63


def resolve(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar. Integers of 2**63 and more become floats, which no integer field takes."""
    if text in _WORDS:
        return _WORDS[text]
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _INTEGER.fullmatch(text):
        # Python refuses to read integers of many thousand digits; floats of any length are fine.
        exact = int(text) if len(text) < 40 else None
        return exact if exact is not None and abs(exact) < _LARGEST_INTEGER else float(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else number
    return text

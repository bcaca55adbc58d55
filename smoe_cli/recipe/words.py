"""Small pieces of the sentences that errors are made of."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    candidates = list(known)
    text = str(word)[:100].strip()
    folded = {_fold(candidate): candidate for candidate in reversed(candidates)}
    if _fold(text) in folded:
        return folded[_fold(text)]
    close = difflib.get_close_matches(_fold(text), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def similar(word: str, other: str) -> bool:
    """Whether one is most likely a slip of the other, rather than a word of its own."""
    return difflib.SequenceMatcher(None, _fold(word), _fold(other)).ratio() > 0.8


def _fold(word: str) -> str:
    """Spelling without what is most often mistaken: case, hyphens, American and British endings."""
    return word.lower().replace("-", "_").replace("color", "colour").replace("ize", "ise")


def one_of(words: Sequence[object], last: str = "or") -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{word}`" for word in words]
    return " ".join([", ".join(quoted[:-1]), last, quoted[-1]]) if len(quoted) > 1 else "".join(quoted)


def all_of(words: Sequence[object]) -> str:
    """`a`, `b` and `c`."""
    return one_of(words, "and")


def did_you_mean(word: object, known: Sequence[str], what: str) -> str:
    """Help for an unknown word: the nearest known one, or all of them."""
    guess = nearest(word, known)
    return f"did you mean `{guess}`?" if guess else f"{what}: {', '.join(f'`{name}`' for name in known)}"


def count(number: int, noun: str) -> str:
    """1 layer, 2 layers, 1,300 steps."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def found(value: Any) -> str:
    """A value as a noun phrase: the number `3`, the text `abc`, an empty list, …"""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case float() if not math.isfinite(value):
            return "an infinite number" if math.isinf(value) else "`nan`"
        case int() | float():
            return f"the number `{number(value)}`"
        case str():
            return f"the text {quote(value)}" if value else "empty text"
        case list() | tuple():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return "a mapping" if value else "an empty mapping"
    return f"`{value}`"


def quote(text: str) -> str:
    """Text in backquotes, shortened, with its control characters escaped."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"')
    escaped = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped)
    return f"`{escaped if len(escaped) <= 40 else escaped[:39] + '…'}`"


def number(value: float) -> str:
    """A number as a person would write it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value) if isinstance(value, int) else f"{value:g}" if float(f"{value:g}") == value else repr(value)

"""English that ships with CPython (`pydoc_data.topics`): passages to read, and words to draw. They differ a little from one
Python version to the next."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from smoe_cli.data.keys import digest

Split = Literal["all", "train", "heldout"]

_SHORTEST, _LONGEST = 150, 700
_CODE = re.compile(r"::=|>>>|==|\s=\s|[{}\\|]|\*\*|--")


@lru_cache(maxsize=3)
def passages(split: Split = "all") -> tuple[str, ...]:
    """Passages of running prose, a few hundred characters each: neighbouring paragraphs, without code, grammar or headings.

    `heldout`: one in ten, by a hash of its text. `train`: those that share no paragraph with a held-out one.
    """
    found = _passages()
    if split == "all":
        return tuple(found)
    heldout = {text for text in found if digest("python-docs", text) % 10 == 0}
    if split == "heldout":
        return tuple(text for text in found if text in heldout)
    seen = {paragraph for text in heldout for paragraph in found[text]}
    return tuple(text for text, paragraphs in found.items() if not seen.intersection(paragraphs))


@lru_cache(maxsize=1)
def _passages() -> dict[str, tuple[str, ...]]:
    """Every passage, in order, and the paragraphs it is made of."""
    from pydoc_data.topics import topics

    found: dict[str, tuple[str, ...]] = {}  # topics quote one another
    for name in sorted(topics):
        parts: list[str] = []
        for paragraph in _paragraphs(topics[name]):
            if parts and len(" ".join(parts)) + len(paragraph) > _LONGEST:
                found[" ".join(parts)] = tuple(parts)
                parts = []
            parts.append(paragraph)
        if parts:
            found[" ".join(parts)] = tuple(parts)
    return {text: parts for text, parts in found.items() if len(text) >= _SHORTEST}


def _paragraphs(text: str) -> list[str]:
    """Paragraphs that read as prose, each on one line."""
    kept = []
    for block in re.split(r"\n\s*\n", text):
        joined = " ".join(re.sub(r"(?<=\w)-\n\s*(?=\w)", "-", block).split())
        paragraph = re.sub(r"\*(\w[^*]*)\*", r"\1", re.sub(r"^[*+] ", "", joined))
        plain = sum(c.isalpha() or c in " ,.;'\"()-_’“”" for c in paragraph)
        if (
            40 <= len(paragraph) <= _LONGEST
            and re.match(r"[A-Z\"“]", paragraph)
            and paragraph[-1] in ".!?"
            and plain >= 0.97 * len(paragraph)
            and not _CODE.search(paragraph)
        ):
            kept.append(paragraph)
    return kept


@lru_cache(maxsize=1)
def words() -> tuple[str, ...]:
    """Words of ASCII letters, lower case, sorted."""
    from pydoc_data.topics import topics

    return tuple(sorted({word for text in topics.values() for word in re.findall(r"(?<!\w)[a-z]+(?!\w)", text.lower())}))

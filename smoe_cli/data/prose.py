"""English that ships with CPython (`pydoc_data.topics`): passages to read, and words to draw. They differ a little from one
Python version to the next."""

from __future__ import annotations

import re
from functools import lru_cache

_SHORTEST, _LONGEST = 150, 700
_CODE = re.compile(r"::=|>>>|==|\s=\s|[{}\\|]|\*\*|--")


@lru_cache(maxsize=1)
def passages() -> tuple[str, ...]:
    """Passages of running prose, a few hundred characters each: neighbouring paragraphs, without code, grammar or headings."""
    from pydoc_data.topics import topics

    found: dict[str, None] = {}  # a set that keeps the order; topics quote one another
    for name in sorted(topics):
        text = ""
        for paragraph in _paragraphs(topics[name]):
            if text and len(text) + len(paragraph) > _LONGEST:
                found[text] = None
                text = ""
            text = f"{text} {paragraph}" if text else paragraph
        if text:
            found[text] = None
    return tuple(text for text in found if len(text) >= _SHORTEST)


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

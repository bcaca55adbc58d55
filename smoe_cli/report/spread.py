"""Some of many, where a page has no room for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(found: Sequence[T], most: int) -> list[T]:
    """At most `most` (two or more) of them, evenly spread, the first and the last among them."""
    if len(found) <= most:
        return list(found)
    return [found[round(index * (len(found) - 1) / (most - 1))] for index in range(most)]

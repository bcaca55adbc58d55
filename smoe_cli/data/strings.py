"""Which strings can be drawn: digit strings or English words, divided into training and held-out strings.

The side of a string is decided by a hash of the string alone, so that it is the same for every seed, length and machine, and
a string seen in training is never asked in evaluation.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np

from smoe_cli.data.keys import digest
from smoe_cli.data.prose import words
from smoe_cli.errors import UserError

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 0.1

_LISTED_DIGITS = 4
"""Up to this length all digit strings are listed (10,000); longer ones are drawn until one falls on the right side."""


def heldout(text: str) -> bool:
    """Whether a string belongs to the held-out side."""
    return digest("heldout", text) < HELDOUT_SHARE * 2**128


def divide(texts: tuple[str, ...]) -> dict[Split, tuple[str, ...]]:
    """Both sides of a list of strings, each in a fixed shuffled order. A list of two or more leaves no side empty."""
    ordered = sorted(texts, key=lambda text: digest("heldout", text))
    cut = sum(map(heldout, ordered))
    if len(ordered) > 1:
        cut = min(max(cut, 1), len(ordered) - 1)
    sides: dict[Split, tuple[str, ...]] = {"heldout": tuple(ordered[:cut]), "train": tuple(ordered[cut:])}
    return {split: tuple(sorted(side, key=lambda text: digest("order", text))) for split, side in sides.items()}


@lru_cache(maxsize=8)
def _digits(length: int) -> dict[Split, tuple[str, ...]]:
    return divide(tuple(map("".join, product("0123456789", repeat=length))))


@lru_cache(maxsize=32)
def _words(length: int) -> dict[Split, tuple[str, ...]]:
    return divide(tuple(word for word in words() if len(word) == length))


class Strings:
    """The strings of one side. Successive indices walk through all of them before one comes twice (digit strings of more than
    four characters are drawn at random instead)."""

    def __init__(self, content: Literal["digits", "words"], length: tuple[int, int], split: Split):
        shortest, longest = length
        if shortest > longest:
            raise UserError(f"length [{shortest}, {longest}]: the shortest is longer than the longest")
        self.content, self.length, self.split = content, length, split
        self._words: tuple[str, ...] = ()
        if content == "words":
            side = [word for n in range(shortest, longest + 1) for word in _words(n)[split]]
            self._words = tuple(sorted(side, key=lambda text: digest("order", text)))
            if not self._words:
                raise UserError(
                    f"there is no {'held-out' if split == 'heldout' else 'training'} word of {shortest} to {longest} letters",
                    help="widen `length`",
                )

    def pick(self, index: int, rng: np.random.Generator) -> str:
        """The string at an index. Digit strings take each length equally often; words are taken evenly from the list."""
        if self.content == "words":
            return self._words[index % len(self._words)]
        shortest, longest = self.length
        round_, offset = divmod(index, longest - shortest + 1)
        length = shortest + offset
        if length <= _LISTED_DIGITS:
            side = _digits(length)[self.split]
            return side[round_ % len(side)]
        while True:
            text = "".join(map(str, rng.integers(0, 10, size=length)))
            if heldout(text) == (self.split == "heldout"):
                return text

    def widest(self, width: dict[str, float]) -> str:
        """The string that needs the most room, given the width of each character; of both sides, so that they look alike."""
        if self.content == "digits":
            return max("0123456789", key=lambda c: width[c]) * self.length[1]
        shortest, longest = self.length
        both = [word for n in range(shortest, longest + 1) for side in _words(n).values() for word in side]
        return max(both, key=lambda word: sum(width[c] for c in word))

"""Randomness addressed by a key instead of drawn from a running generator.

Every random choice of the data room is a pure function of a key such as (seed, phase, lane, draw). Nothing has to be saved
to resume, and no choice depends on which process makes it or on what was drawn before.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np

Key = int | str

_MASK = (1 << 64) - 1
_ROUNDS = 8


def digest(*key: Key) -> int:
    """128-bit hash of a key; the same on every machine and in every process."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=16).digest(), "little")


def generator(*key: Key) -> np.random.Generator:
    """A generator whose stream is fixed by the key alone."""
    return np.random.Generator(np.random.Philox(key=digest(*key)))


@lru_cache(maxsize=256)
def _round_keys(key: tuple[Key, ...]) -> tuple[int, ...]:
    return tuple(digest("round", i, *key) & _MASK for i in range(_ROUNDS))


def _mix(value: int, key: int) -> int:
    """64-bit finalizer of splitmix64, keyed."""
    x = (value * 0x9E3779B97F4A7C15 + key) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def shuffled(position: int, size: int, *key: Key) -> int:
    """Where `position` lands in the keyed permutation of range(size).

    A Feistel network over the next power of two, walked until it lands inside: no table is stored, so that a shuffle of a
    billion rows costs nothing to start or to resume.
    """
    if not 0 <= position < size:
        raise ValueError(f"position {position} outside of range({size})")
    if size == 1:
        return 0
    keys = _round_keys(key)
    bits = max(2, (size - 1).bit_length())
    low_bits = bits // 2
    low_mask, high_mask = (1 << low_bits) - 1, (1 << (bits - low_bits)) - 1
    value = position
    while True:
        low, high = value & low_mask, value >> low_bits
        for i in range(0, _ROUNDS, 2):
            high ^= _mix(low, keys[i]) & high_mask
            low ^= _mix(high, keys[i + 1]) & low_mask
        value = (high << low_bits) | low
        if value < size:
            return value

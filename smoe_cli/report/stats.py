"""How much a score of so many questions can say."""

from __future__ import annotations

import math

Z95 = 1.959964
"""Quantile of the normal distribution for a two-sided 95 % interval."""


def wilson(correct: float, total: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson's score interval). `total` must be positive."""
    share, square = correct / total, Z95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = Z95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(before: tuple[float, float], after: tuple[float, float]) -> tuple[float, float, float]:
    """(after − before, low, high) of two (correct, total): Newcombe's 95 % interval from the two Wilson intervals.

    It takes the two results as independent. When both answer the same questions it is wider than need be, so it never
    calls a change real that is not.
    """
    share_b, share_a = before[0] / before[1], after[0] / after[1]
    low_b, high_b = wilson(*before)
    low_a, high_a = wilson(*after)
    change = share_a - share_b
    low = change - math.hypot(share_a - low_a, high_b - share_b)
    high = change + math.hypot(high_a - share_a, share_b - low_b)
    return change, low, high

"""How much a score of so many questions can say, and whether two scores differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z95 = 1.959964
"""Quantile of the normal distribution for a two-sided 95 % interval."""

RESAMPLES = 10_000
"""Bootstrap samples: bounds and p values are good to about two digits."""
_AT_ONCE = 2**22
"""Numbers drawn at once: bounds the bootstrap's memory to about 100 MB."""


class Difference(NamedTuple):
    """The second result less the first, with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(correct: float, total: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson's score interval). `total` must be positive."""
    share, square = correct / total, Z95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = Z95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def unpaired_difference(first: tuple[float, float], second: tuple[float, float]) -> Difference:
    """Of the shares of two (correct, total): Newcombe's interval from the two Wilson intervals (1998, method 10).

    It takes the two results as independent. When both answer the same questions it is usually wider than need be:
    `paired_difference` then says more.
    """
    share_1, share_2 = first[0] / first[1], second[0] / second[1]
    low_1, high_1 = wilson(*first)
    low_2, high_2 = wilson(*second)
    value = share_2 - share_1
    low = value - math.hypot(share_2 - low_2, high_1 - share_1)
    high = value + math.hypot(high_2 - share_2, share_1 - low_1)
    return Difference(value, low, high)


def mcnemar(b: int, c: int) -> float:
    """Two-sided p of McNemar's exact test: that of `b` heads and `c` tails from a fair coin.

    b: questions that only the first model answers right; c: those that only the second does. 1 when there are none.
    """
    n, fewer = b + c, min(b, c)
    terms = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(map(math.exp, terms)))


def paired_difference(b: int, c: int, total: int) -> Difference:
    """Of the shares of right answers to the same `total` questions: Tango's score interval (1998, Statistics in Medicine 17).

    b, c: as of `mcnemar`. A difference lies inside when a score test at 5 % does not reject it. Unlike the usual interval this
    one holds for few questions, and for none that are answered differently. `total` must be positive.
    """
    value = (c - b) / total
    return Difference(value, -_upper(b, c, total), _upper(c, b, total))


def _upper(gained: int, lost: int, total: int) -> float:
    """The largest difference gained − lost, as a share of `total`, that the score test does not reject."""
    low, high = (gained - lost) / total, 1.0
    for _ in range(60):  # halves the bracket each time: to the last digit
        middle = (low + high) / 2
        low, high = (low, middle) if tango(gained, lost, total, middle) < -Z95 else (middle, high)
    return high


def tango(gained: int, lost: int, total: int, difference: float) -> float:
    """Tango's statistic for a true `difference` of shares: standard normal if it is true; 0 at the observed difference."""
    a = 2 * total
    b = (2 * total - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    p_lost = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # likeliest share of lost ones under `difference`
    variance = total * (2 * p_lost + difference * (1 - difference))
    distance = gained - lost - total * difference
    if variance <= 0:  # all questions answered alike, or all gained: only the observed difference itself is possible
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def bootstrap_difference(
    first: Sequence[float], second: Sequence[float], weights: Sequence[float], seed: int = 0
) -> tuple[Difference, float]:
    """Of Σ values / Σ weights of two models over the same questions; and its two-sided p.

    Percentile interval of `RESAMPLES` samples of the questions, drawn with replacement from a fixed seed; p: twice the share of
    samples in which the difference has the other sign or none (Efron & Tibshirani 1993, chapters 13 and 15). Both need a few
    dozen questions to be right. Raises ValueError of fewer than two.
    """
    import numpy as np

    n = len(weights)
    if n < 2:
        raise ValueError(f"{n} question(s) cannot be resampled")
    gain = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    weight = np.asarray(weights, np.float64)
    rng = np.random.default_rng(seed)
    samples = np.empty(RESAMPLES)
    step = max(1, _AT_ONCE // n)
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(n, size=(min(step, RESAMPLES - start), n))
        samples[start : start + step] = gain[drawn].sum(1) / weight[drawn].sum(1)
    low, high = np.quantile(samples, [0.025, 0.975])
    tail = min((samples <= 0).sum(), (samples >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (RESAMPLES + 1))  # + 1: the sample that was observed
    return Difference(float(gain.sum() / weight.sum()), float(low), float(high)), p

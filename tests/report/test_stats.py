"""Intervals, against their definition and against published numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.report.stats import Z95, difference, wilson

counts = st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(counts)
def test_wilson_bounds_solve_the_score_equation(pair: tuple[int, int]) -> None:
    """The bounds are the shares p from which the observed share lies exactly z standard errors away."""
    correct, total = pair
    share = correct / total
    for bound in wilson(correct, total):
        assert (share - bound) ** 2 == pytest.approx(Z95**2 * bound * (1 - bound) / total, abs=1e-9)


def test_newcombe_example() -> None:
    """Newcombe 1998, method 10, his example (a): 56/70 against 48/80."""
    change, low, high = difference((48, 80), (56, 70))
    assert (change, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(counts, counts)
def test_difference_is_antisymmetric_and_holds_the_change(a: tuple[int, int], b: tuple[int, int]) -> None:
    change, low, high = difference(a, b)
    back, back_low, back_high = difference(b, a)
    assert low <= change + 1e-12
    assert change <= high + 1e-12
    assert (change, low, high) == pytest.approx((-back, -back_high, -back_low))


def test_more_questions_narrow_the_interval() -> None:
    widths = [
        math.dist([difference((n, 2 * n), (n, 2 * n))[1]], [difference((n, 2 * n), (n, 2 * n))[2]]) for n in (50, 500, 5000)
    ]
    assert widths[0] > widths[1] > widths[2]

"""Intervals and tests, against their definitions, published numbers and slow, obvious references."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.eval.compare.significance import (
    Z95,
    bootstrap_difference,
    mcnemar,
    paired_difference,
    tango,
    unpaired_difference,
    wilson,
)

counts = st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
pairs = st.integers(1, 3000).flatmap(
    lambda total: st.integers(0, total).flatmap(
        lambda b: st.tuples(st.just(b), st.integers(0, total - b), st.just(total)),
    )
)


@given(counts)
def test_wilson_bounds_solve_the_score_equation(pair: tuple[int, int]) -> None:
    """The bounds are the shares p from which the observed share lies exactly z standard errors away."""
    correct, total = pair
    share = correct / total
    for bound in wilson(correct, total):
        assert (share - bound) ** 2 == pytest.approx(Z95**2 * bound * (1 - bound) / total, abs=1e-9)


def test_newcombe_example() -> None:
    """Newcombe 1998, method 10, his example (a): 56/70 against 48/80."""
    assert unpaired_difference((48, 80), (56, 70)) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(counts, counts)
def test_unpaired_difference_is_antisymmetric_and_holds_the_change(a: tuple[int, int], b: tuple[int, int]) -> None:
    change, low, high = unpaired_difference(a, b)
    back, back_low, back_high = unpaired_difference(b, a)
    assert low <= change + 1e-12
    assert change <= high + 1e-12
    assert (change, low, high) == pytest.approx((-back, -back_high, -back_low))


def test_more_questions_narrow_the_interval() -> None:
    unpaired = [unpaired_difference((n, 2 * n), (n, 2 * n)) for n in (50, 500, 5000)]
    paired = [paired_difference(n // 10, n // 10, 2 * n) for n in (50, 500, 5000)]
    for intervals in (unpaired, paired):
        widths = [one.high - one.low for one in intervals]
        assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("b", "c"), [(b, c) for b in range(12) for c in range(12)])
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    """Counted: of all 2^(b+c) ways in which the questions could have gone, those at least as one-sided as what was seen."""
    ways = sum(math.comb(b + c, k) for k in range(b + c + 1) if abs(2 * k - b - c) >= abs(b - c))
    assert mcnemar(b, c) == pytest.approx(float(Fraction(ways, 2 ** (b + c))), rel=1e-12)


def test_mcnemar_of_many_questions_neither_overflows_nor_vanishes() -> None:
    assert mcnemar(0, 1000) == pytest.approx(math.ldexp(1, -999), rel=1e-10)
    assert mcnemar(6000, 6000) == 1.0
    exact = Fraction(2 * sum(math.comb(3000, k) for k in range(1400)), 2**3000)
    assert mcnemar(1399, 1601) == pytest.approx(float(exact), rel=1e-9)


def test_mcnemar_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for b, c in ((0, 1), (1, 1), (17, 30), (250, 301), (2000, 1900)):
        assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("gained", "lost", "total", "difference"),
    [(3, 9, 40, 0.1), (9, 3, 40, 0.1), (0, 1, 44, 0.03), (7, 0, 20, 0.5), (2, 2, 10, -0.2), (0, 0, 30, 0.05)],
)
def test_the_statistic_standardises_by_the_likeliest_table(gained: int, lost: int, total: int, difference: float) -> None:
    """Of all tables with this true difference, found by trying, the one that makes the counts likeliest gives the variance."""
    p_lost = np.linspace(max(0.0, -difference), (1 - difference) / 2, 2_000_001)[1:-1]
    p_gained = p_lost + difference
    same = np.maximum(1 - p_gained - p_lost, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [n * np.log(p) for n, p in ((gained, p_gained), (lost, p_lost), (total - gained - lost, same)) if n]
    best = int(np.argmax(sum(terms)))
    variance = total * (p_gained[best] + p_lost[best] - difference**2)
    assert tango(gained, lost, total, difference) == pytest.approx(
        (gained - lost - total * difference) / math.sqrt(variance), rel=1e-4
    )


@given(pairs)
def test_tango_bounds_solve_the_score_equation(pair: tuple[int, int, int]) -> None:
    b, c, total = pair
    value, low, high = paired_difference(b, c, total)
    assert value == (c - b) / total
    assert -1 <= low <= value <= high <= 1
    if high < 1:
        assert tango(c, b, total, high) == pytest.approx(-Z95, rel=1e-6)
    if low > -1:
        assert tango(c, b, total, low) == pytest.approx(Z95, rel=1e-6)


@given(pairs)
def test_paired_difference_is_antisymmetric_and_agrees_with_mcnemars_statistic(pair: tuple[int, int, int]) -> None:
    b, c, total = pair
    there, back = paired_difference(b, c, total), paired_difference(c, b, total)
    assert there == pytest.approx((-back.value, -back.high, -back.low))
    if b + c:
        assert tango(c, b, total, 0.0) == pytest.approx((c - b) / math.sqrt(b + c))


def test_nothing_answered_differently() -> None:
    """The interval has the closed form ± z² / (n + z²)."""
    half = Z95**2 / (100 + Z95**2)
    assert paired_difference(0, 0, 100) == pytest.approx((0, -half, half), abs=1e-9)
    assert mcnemar(0, 0) == 1.0


def test_pairing_narrows_the_interval_where_the_models_agree() -> None:
    paired, unpaired = paired_difference(5, 15, 500), unpaired_difference((250, 500), (260, 500))
    assert paired.value == pytest.approx(unpaired.value)
    assert unpaired.low < paired.low < paired.high < unpaired.high


def test_bootstrap_of_few_texts_is_close_to_all_samples_there_are() -> None:
    """Four texts give 4⁴ equally likely samples: the quantiles of all of them are known exactly."""
    first, second, weights = [1.0, 2.0, 3.0, 4.0], [1.5, 2.25, 2.75, 6.0], [10.0, 20.0, 5.0, 40.0]
    every = np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T
    gain = np.array(second) - np.array(first)
    exact = gain[every].sum(1) / np.array(weights)[every].sum(1)
    difference, p = bootstrap_difference(first, second, weights)
    assert difference.value == pytest.approx(2.5 / 75)
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(exact, [0.025, 0.975])), abs=0.002)
    assert p == pytest.approx(2 * (exact <= 0).mean(), abs=0.006)


def test_bootstrap_of_many_texts_is_the_normal_interval() -> None:
    rng = np.random.default_rng(1)
    first, gain, weights = rng.normal(size=2000), rng.normal(0.05, 1, 2000), rng.uniform(1, 3, 2000)
    difference, p = bootstrap_difference(list(first), list(first + gain), list(weights))
    ratio = gain.sum() / weights.sum()
    error = np.sqrt(((gain - ratio * weights) ** 2).sum()) / weights.sum()
    assert difference == pytest.approx((ratio, ratio - Z95 * error, ratio + Z95 * error), abs=0.1 * error)
    assert p == pytest.approx(math.erfc(abs(ratio / error) / math.sqrt(2)), abs=0.02)


def test_bootstrap_repeats_itself_and_turns_round() -> None:
    rng = np.random.default_rng(2)
    first, second, weights = rng.normal(size=50), rng.normal(0.1, 1, 50), rng.uniform(1, 3, 50)
    there, p = bootstrap_difference(list(first), list(second), list(weights))
    assert (there, p) == bootstrap_difference(list(first), list(second), list(weights))
    back, again = bootstrap_difference(list(second), list(first), list(weights))
    assert there == pytest.approx((-back.value, -back.high, -back.low))
    assert again == p
    assert bootstrap_difference(list(first), list(first), list(weights)) == ((0, 0, 0), 1.0)
    with pytest.raises(ValueError, match="1 question"):
        bootstrap_difference([1.0], [2.0], [1.0])


def test_bootstrap_in_pieces_is_the_bootstrap_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, weights = [1.0, 2.0, 4.0], [1.0, 3.0, 3.5], [1.0, 2.0, 3.0]
    whole = bootstrap_difference(first, second, weights)
    monkeypatch.setattr("smoe_cli.eval.compare.significance._AT_ONCE", 7 * 3)
    assert bootstrap_difference(first, second, weights) == whole

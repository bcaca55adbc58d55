"""Learning rates and shield factors as functions of the step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smoe_cli.plan import learning_rate, shield_factor
from smoe_cli.plan.schedule import shield_factors
from smoe_cli.recipe.models import Phase, Shield

phases = st.builds(
    lambda steps, share, kind, floor: phase(
        steps=steps, warmup=int(share * steps), decay=None if kind is None else {"kind": kind, "floor": floor}
    ),
    steps=st.integers(1, 60),
    share=st.floats(0, 1),
    kind=st.sampled_from([None, "linear", "cosine"]),
    floor=st.floats(0, 1),
)
peaks = st.floats(0, 1)


def phase(**changes: Any) -> Phase:
    raw = {"name": "p", "steps": 10, "tokens_per_step": 8, "mixture": {"a": 1}, "learning_rate": {"default": 1.0}}
    return Phase.model_validate({**raw, **changes})


def shield(factor: Any) -> Shield:
    return Shield.model_validate({"module": "shared", "modalities": ["vae"], "factor": factor})


def curve(of: Phase, peak: float) -> list[float]:
    return [learning_rate(of, peak, step) for step in range(of.steps)]


def test_constant() -> None:
    assert curve(phase(), 0.5) == [0.5] * 10


def test_warmup_then_linear_decay() -> None:
    of = phase(steps=8, warmup=4, decay={"kind": "linear", "floor": 0.2})
    assert curve(of, 1.0) == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_decay() -> None:
    of = phase(steps=5, decay={"kind": "cosine"})
    expected = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    assert curve(of, 2.0) == pytest.approx([2 * value for value in expected])


def test_a_single_step_has_the_peak() -> None:
    for decay in (None, {"kind": "linear"}, {"kind": "cosine"}):
        assert curve(phase(steps=1, decay=decay), 0.3) == [0.3]


@given(phases, peaks)
def test_warmup_rises_in_equal_steps_to_the_peak(of: Phase, peak: float) -> None:
    for step in range(of.warmup):
        assert learning_rate(of, peak, step) == peak * (step + 1) / of.warmup


@given(phases, peaks)
def test_the_peak_is_reached_and_never_passed(of: Phase, peak: float) -> None:
    rates = curve(of, peak)
    assert max(rates) == pytest.approx(peak)
    assert rates[max(of.warmup - 1, 0)] == pytest.approx(peak)
    assert all(0 <= rate <= peak * (1 + 1e-12) for rate in rates)


@given(phases, peaks)
def test_the_floor_is_reached_at_the_last_step_and_not_before(of: Phase, peak: float) -> None:
    assume(of.decay is not None and of.steps > of.warmup and of.steps > 1)
    assert of.decay is not None
    rates = curve(of, peak)
    assert rates[-1] == pytest.approx(of.decay.floor * peak)
    falling = rates[max(of.warmup - 1, 0) :]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(falling))
    assert falling[-1] <= min(falling) * (1 + 1e-12)


@given(phases, st.integers(0, 59))
def test_a_peak_of_zero_stays_zero(of: Phase, step: int) -> None:
    assume(step < of.steps)
    assert learning_rate(of, 0.0, step) == 0.0


@given(phases, peaks, st.floats(0, 8))
def test_rates_scale_with_their_peak(of: Phase, peak: float, scale: float) -> None:
    assert curve(of, scale * peak) == pytest.approx([scale * rate for rate in curve(of, peak)])


def test_a_number_is_a_constant_factor() -> None:
    assert [shield_factor(shield(0), step) for step in (0, 1, 10_000)] == [0, 0, 0]
    assert shield_factors(shield(0.25)) == ((0, 0.25),)


def test_each_factor_holds_from_its_step_on() -> None:
    of = shield({500: 0.1, 0: 0.0, 800: 1.0})
    assert [shield_factor(of, step) for step in (0, 499, 500, 799, 800, 10**6)] == [0.0, 0.0, 0.1, 0.1, 1.0, 1.0]
    assert shield_factors(of) == ((0, 0.0), (500, 0.1), (800, 1.0))


@given(st.dictionaries(st.integers(1, 50), st.floats(0, 1)), st.floats(0, 1), st.integers(0, 60))
def test_a_staircase_is_read_like_a_loop_over_steps(later: dict[int, float], first: float, step: int) -> None:
    factor = first
    for passed in range(step + 1):
        factor = later.get(passed, factor)
    assert shield_factor(shield({0: first, **later}), step) == factor

"""Learning rates and shield factors as pure functions of the step: no state to lose on resume or count twice."""

from __future__ import annotations

import math

from smoe_cli.recipe.models import Phase, Shield


def learning_rate(phase: Phase, peak: float, step_in_phase: int) -> float:
    """Rate of a parameter whose peak rate is `peak`, at step `step_in_phase` (counted from 0) of `phase`.

    Warm-up: peak · (step + 1) / warmup, so that the last warm-up step has the peak. Then constant, or falling from the end
    of the warm-up to floor · peak at the last step of the phase. Without warm-up, step 0 has the peak.
    """
    if step_in_phase < phase.warmup:
        return peak * (step_in_phase + 1) / phase.warmup
    if phase.decay is None:
        return peak
    start = max(phase.warmup - 1, 0)  # the step that has the peak
    length = phase.steps - 1 - start
    if length <= 0:  # a phase of one step: there is nothing to fall over
        return peak
    left = 1.0 - (step_in_phase - start) / length
    if phase.decay.kind == "cosine":
        left = 0.5 * (1.0 - math.cos(math.pi * left))
    floor = phase.decay.floor
    return peak * (floor + (1.0 - floor) * left)


def shield_factors(shield: Shield) -> tuple[tuple[int, float], ...]:
    """The factor as a staircase: (step in phase, factor from that step on), ascending."""
    if isinstance(shield.factor, dict):
        return tuple(sorted(shield.factor.items()))
    return ((0, shield.factor),)


def shield_factor(shield: Shield, step_in_phase: int) -> float:
    """Factor on the gradient at step `step_in_phase` (counted from 0): 0 cuts, 1 is open."""
    return [factor for step, factor in shield_factors(shield) if step <= step_in_phase][-1]

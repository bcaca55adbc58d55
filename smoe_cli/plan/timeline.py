"""The phases drawn over steps, as plain lines of text: bars, learning rates and shields."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from smoe_cli.plan.schedule import learning_rate, shield_factor, shield_factors
from smoe_cli.plan.types import Plan
from smoe_cli.plan.units import rate
from smoe_cli.recipe.models import Recipe, Shield


@dataclass(frozen=True)
class Glyphs:
    """Characters to draw with; a terminal that cannot show blocks gets ASCII."""

    ramp: str
    frozen: str
    bar: str
    """Left end, line and right end of a phase's bar."""
    then: str
    into: str
    mark: str


BLOCKS = Glyphs(ramp="▁▂▃▄▅▆▇█", frozen="·", bar="├─┤", then="→", into="←", mark="●")
ASCII = Glyphs(ramp="_.:-=+*#", frozen=" ", bar="|-|", then="->", into="<-", mark="x")


@dataclass(frozen=True)
class Line:
    """One row of the drawing: what it shows, one character per column, and a note with its numbers."""

    label: str
    cells: str
    note: str
    kind: str
    """`phase`, `steps`, `rate`, `shield` or `evaluation`."""


def timeline(plan: Plan, recipe: Recipe, width: int, glyphs: Glyphs) -> list[Line]:
    """The drawing in `width` columns: bars of the phases, their first steps, rates by role, shields by module and modality.

    Columns are shared out by steps, but every phase gets enough for its name. Each curve is relative to its own highest
    value, which the note gives.
    """
    widths = _columns(plan, width)
    steps = [_sampled(phase.steps, columns) for phase, columns in zip(plan.phases, widths, strict=True)]
    curves = _rates(plan, recipe, steps, glyphs) + _shields(recipe, steps, glyphs) + _evaluations(plan, recipe, steps, glyphs)
    return [_bars(plan, widths, glyphs), _axis(plan, widths), *curves]


def _columns(plan: Plan, width: int) -> list[int]:
    """Columns of each phase: in proportion to its steps, after every phase has those that its name needs."""
    least = [min(len(phase.name) + 2, max(2, width // len(plan.phases))) for phase in plan.phases]
    spare = max(0, width - sum(least))
    wanted = [max(0.0, width * phase.steps / plan.total_steps - few) for phase, few in zip(plan.phases, least, strict=True)]
    scale = spare / sum(wanted) if any(wanted) else 0.0
    widths = [few + int(more * scale) for few, more in zip(least, wanted, strict=True)]
    widths[widths.index(max(widths))] += max(0, width - sum(widths))
    return widths


def _sampled(steps: int, columns: int) -> list[int]:
    """The step that each column shows; the first and the last step of the phase are always among them."""
    return [round(column * (steps - 1) / max(1, columns - 1)) for column in range(columns)]


def _bars(plan: Plan, widths: list[int], glyphs: Glyphs) -> Line:
    left, line, right = tuple(glyphs.bar)
    cells = ""
    for phase, columns in zip(plan.phases, widths, strict=True):
        name = phase.name[: columns - 2]
        if len(name) + 4 <= columns:
            name = f" {name} "
        cells += left + name.center(columns - 2, line) + right
    return Line("phase", cells, "", "phase")


def _axis(plan: Plan, widths: list[int]) -> Line:
    cells = ""
    for phase, columns in zip(plan.phases, widths, strict=True):
        start = str(phase.start)
        cells += (start if len(start) < columns else "").ljust(columns)
    end = str(plan.total_steps)
    if not cells[-len(end) - 1 :].strip():
        cells = cells[: -len(end)] + end
    return Line("step", cells, "", "steps")


def _rates(plan: Plan, recipe: Recipe, steps: list[list[int]], glyphs: Glyphs) -> list[Line]:
    lines = []
    for role in plan.roles:
        values: list[float | None] = []
        seen = []
        for phase, planned, sampled in zip(recipe.phases, plan.phases, steps, strict=True):
            peak = planned.rates.get(role)
            values += [None if peak is None else learning_rate(phase, peak, step) for step in sampled]
            seen.append("frozen" if peak is None else rate(peak))
        lines.append(Line(role, _curve(values, glyphs), _in_turn(seen, glyphs), "rate"))
    return lines


def _shields(recipe: Recipe, steps: list[list[int]], glyphs: Glyphs) -> list[Line]:
    """One line for each shielded module and modality. Outside its shields a module is open: factor 1."""
    shielded = dict.fromkeys(
        (shield.module, modality) for phase in recipe.phases for shield in phase.shields for modality in shield.modalities
    )
    lines = []
    for module, modality in shielded:
        values: list[float | None] = []
        seen = []
        for phase, sampled in zip(recipe.phases, steps, strict=True):
            shields = [shield for shield in phase.shields if shield.module == module and modality in shield.modalities]
            values += [_product(shields, step) for step in sampled]
            changes = {0} | {step for shield in shields for step, _ in shield_factors(shield) if step < phase.steps}
            seen += [f"{_product(shields, step):g}" for step in sorted(changes)]
        label = f"{module} {glyphs.into} {modality}"
        lines.append(Line(label, _curve(values, glyphs, top=1.0), _in_turn(seen, glyphs), "shield"))
    return lines


def _evaluations(plan: Plan, recipe: Recipe, steps: list[list[int]], glyphs: Glyphs) -> list[Line]:
    """One line that marks the steps after which the tasks are measured, if some lie within a phase."""
    during = recipe.evaluation.during
    if not during:
        return []
    columns = [phase.start + step for phase, sampled in zip(plan.phases, steps, strict=True) for step in sampled]
    cells = [" "] * len(columns)
    for step in (*during, *(phase.start + phase.steps for phase in plan.phases)):
        cells[max(bisect_left(columns, step) - 1, 0)] = glyphs.mark
    few = ", ".join(f"{step:,}" for step in during) if len(during) <= 4 else f"{len(during)} steps"
    return [Line("evaluation", "".join(cells), f"after {few} and each phase", "evaluation")]


def _product(shields: list[Shield], step: int) -> float:
    return math.prod(shield_factor(shield, step) for shield in shields)


def _in_turn(seen: list[str], glyphs: Glyphs) -> str:
    """Values in the order they come, repetitions left out: `frozen → 1e-4`."""
    return f" {glyphs.then} ".join(value for value, before in zip(seen, [None, *seen], strict=False) if value != before)


def _curve(values: list[float | None], glyphs: Glyphs, top: float | None = None) -> str:
    """Heights relative to `top`, by default the highest value. Only 0 has the lowest mark: small must not look like none."""
    if top is None:
        top = max((value for value in values if value is not None), default=0.0)
    cells = ""
    for value in values:
        if value is None:
            cells += glyphs.frozen
        elif value == 0 or top == 0:
            cells += glyphs.ramp[0]
        else:
            cells += glyphs.ramp[max(1, round(value / top * (len(glyphs.ramp) - 1)))]
    return cells

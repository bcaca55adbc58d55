"""Phases: mixtures of known sources, whole batches, schedules and shields that do something."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.recipe.checks.experts import repeated
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.effects import INTERFACE, present, produced, shared_modalities
from smoe_cli.recipe.models import Phase, Recipe, Shield
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import count, did_you_mean


def check_phases(recipe: Recipe) -> Iterator[Problem]:
    """Every phase by itself, and their names."""
    names = [phase.name for phase in recipe.phases]
    for index, phase in enumerate(recipe.phases):
        path: Path = ("phases", index)
        if phase.name in names[:index]:
            yield Problem((*path, "name"), f"another phase is named `{phase.name}`", "results are filed under it")
        yield from _mixture(recipe, phase, path)
        yield from _batch(recipe, phase, path)
        yield from _schedule(phase, path)
        yield from _shields(recipe, phase, path)


def _mixture(recipe: Recipe, phase: Phase, path: Path) -> Iterator[Problem]:
    known = list(recipe.data.sources)
    for name in phase.mixture:
        if name not in known:
            yield Problem((*path, "mixture", name), f"unknown source `{name}`", did_you_mean(name, known, "sources"), key=True)


def _batch(recipe: Recipe, phase: Phase, path: Path) -> Iterator[Problem]:
    length = recipe.data.sequence_length
    unit = length * phase.accumulate
    if phase.tokens_per_step % unit == 0:
        return
    product = f"`sequence_length` {length}" + (f" × `accumulate` {phase.accumulate}" if phase.accumulate > 1 else "")
    below, above = phase.tokens_per_step // unit * unit, (phase.tokens_per_step // unit + 1) * unit
    help = f"{below} or {above} would do" if below else f"{above} would do"
    yield Problem((*path, "tokens_per_step"), f"{phase.tokens_per_step} is not a multiple of {product}", help)


def _schedule(phase: Phase, path: Path) -> Iterator[Problem]:
    if phase.warmup and phase.warmup >= phase.steps:
        message = f"a warm-up of {count(phase.warmup, 'step')} never ends in a phase of {count(phase.steps, 'step')}"
        yield Problem((*path, "warmup"), message, "it must be shorter than the phase")


def _shields(recipe: Recipe, phase: Phase, path: Path) -> Iterator[Problem]:
    owner: dict[tuple[str, str, str], int] = {}
    for number, shield in enumerate(phase.shields):
        here = (*path, "shields", number)
        yield from repeated(shield.modalities, (*here, "modalities"))
        for position, modality in enumerate(shield.modalities):
            at = (*here, "modalities", position)
            if why := _idle(recipe, phase, modality):
                yield Problem(at, f"a shield of `{modality}` has no effect here: {why}")
            first = owner.setdefault((shield.module, modality, shield.mode), number)
            if first != number:
                message = (
                    f"shield {first} of this phase shields `{shield.module}` from `{modality}` in mode `{shield.mode}` already"
                )
                yield Problem(at, message, "give one shield several factors instead: `factor: {0: 0.0, 500: 0.1}`")
        yield from _factors(shield, phase, here)


def _idle(recipe: Recipe, phase: Phase, modality: str) -> str | None:
    """Why shielding a module from a modality does nothing in a phase."""
    if modality not in present(recipe.model):
        return f"the model has no `{INTERFACE[modality]}`"
    if recipe.model.shared == "none":
        return "`model.shared` is `none`"
    if modality not in shared_modalities(recipe.model):
        return f"`model.shared.modalities` leaves `{modality}` out"
    unknown = any(name not in recipe.data.sources for name in phase.mixture)
    if modality not in produced(recipe, phase) and not unknown:
        return f"no source of this phase has task `{'mmu' if modality == 'vit' else 't2i'}`"
    return None


def _factors(shield: Shield, phase: Phase, path: Path) -> Iterator[Problem]:
    if not isinstance(shield.factor, dict):
        return
    if 0 not in shield.factor:
        first = min(shield.factor)
        message = f"no factor for steps 0 to {first - 1}" if first > 1 else "no factor for step 0"
        yield Problem((*path, "factor"), message, "start with step 0: `0: 0.0` cuts, `0: 1.0` leaves open")
    for step in shield.factor:
        if step >= phase.steps:
            message = f"step {step} has no effect: the phase has {count(phase.steps, 'step')}, 0 to {phase.steps - 1}"
            yield Problem((*path, "factor", step), message, key=True)

"""Recipe → Plan: a pure function, without torch and without weights."""

from __future__ import annotations

from smoe_cli.plan.errors import PlanError
from smoe_cli.plan.flops import flops
from smoe_cli.plan.groups import compile_groups
from smoe_cli.plan.memory import memory
from smoe_cli.plan.parameters import active_parameters, backbone_before, count
from smoe_cli.plan.roles import resolve
from smoe_cli.plan.schedule import shield_factors
from smoe_cli.plan.tensors import latent_dim, model_tensors, vae_tokens, vit_tokens
from smoe_cli.plan.types import Active, Parameters, PhasePlan, Plan, ShieldPlan, Tensor
from smoe_cli.recipe import Problem
from smoe_cli.recipe.effects import present
from smoe_cli.recipe.models import Phase, Recipe
from smoe_cli.recipe.sizes import BYTES_VOCABULARY


def compile_plan(recipe: Recipe, processes: int = 1) -> Plan:
    """Works out everything that follows from `recipe`, which the loader has checked.

    processes: data-parallel processes that the memory is worked out for; nothing else depends on it.
    Raises PlanError with everything that is wrong with the phases' roles, which only the plan knows.
    """
    model = recipe.model
    vocab_size = model.backbone.scratch.vocab_size or BYTES_VOCABULARY
    groups = compile_groups(recipe)
    tensors = model_tensors(model, groups, vocab_size)
    parameters = count(tensors, backbone_before(model, vocab_size))
    modalities: tuple[str, ...] = present(model)
    active = {modality: active_parameters(model, parameters, groups, modality) for modality in modalities}
    phases, problems = _phases(recipe, tensors, parameters, active, vocab_size, processes)
    if problems:
        raise PlanError(problems)
    return Plan(
        name=recipe.name,
        vocab_size=vocab_size,
        sequence_length=recipe.data.sequence_length,
        groups=groups,
        group_of={modality: g for g, group in enumerate(groups) for modality in group.modalities},
        vit_tokens=vit_tokens(model.vision),
        vae_tokens=vae_tokens(model.latents),
        latent_dim=latent_dim(model.latents),
        tensors=tensors,
        roles=tuple(parameters.roles),
        phases=phases,
        total_steps=sum(phase.steps for phase in phases),
        total_tokens=sum(phase.tokens for phase in phases),
        parameters=parameters,
        active=active,
        flops={modality: flops(recipe, active[modality], modality, vocab_size) for modality in modalities},
        processes=processes,
    )


def _phases(
    recipe: Recipe,
    tensors: tuple[Tensor, ...],
    parameters: Parameters,
    active: dict[str, Active],
    vocab_size: int,
    processes: int,
) -> tuple[tuple[PhasePlan, ...], list[Problem]]:
    plans: list[PhasePlan] = []
    problems: list[Problem] = []
    trained: set[str] = set()
    for index, phase in enumerate(recipe.phases):
        rates, frozen, more = resolve(phase, index, tuple(parameters.roles))
        problems += more
        trained |= set(rates)
        plans.append(
            PhasePlan(
                name=phase.name,
                start=sum(earlier.steps for earlier in plans),
                steps=phase.steps,
                tokens_per_step=phase.tokens_per_step,
                rows_per_step=phase.tokens_per_step // recipe.data.sequence_length,
                accumulate=phase.accumulate,
                tokens=phase.steps * phase.tokens_per_step,
                mixture=_shares(phase),
                rates=rates,
                frozen=frozen,
                shields=tuple(ShieldPlan(s.module, s.modalities, s.mode, shield_factors(s)) for s in phase.shields),
                trainable=sum(parameters.roles[role] for role in rates),
                trainable_active={modality: sum(a.roles.get(role, 0) for role in rates) for modality, a in active.items()},
                memory=memory(recipe, phase, tensors, set(rates), trained, vocab_size, processes),
            )
        )
    return tuple(plans), problems


def _shares(phase: Phase) -> dict[str, float]:
    total = sum(phase.mixture.values())
    return {source: weight / total for source, weight in phase.mixture.items()}

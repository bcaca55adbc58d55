"""Recipe → Plan: a pure function of the recipe and of what is known of its backbone, without torch and without weights."""

from __future__ import annotations

from collections.abc import Iterable

from smoe_cli.plan.checks import check_config, check_family, check_fit, check_groups, check_profile, check_promotion, check_rows
from smoe_cli.plan.errors import PlanError
from smoe_cli.plan.flops import flops
from smoe_cli.plan.groups import Layers, compile_groups, promote
from smoe_cli.plan.kept import kept
from smoe_cli.plan.memory import Kept, memory
from smoe_cli.plan.parameters import active_parameters, count
from smoe_cli.plan.roles import resolve, trainable_roles
from smoe_cli.plan.routed import decoder_layers, routed_experts
from smoe_cli.plan.schedule import shield_factors
from smoe_cli.plan.source import Source
from smoe_cli.plan.tensors import latent_dim, model_tensors, vae_tokens
from smoe_cli.plan.types import Active, Parameters, PhasePlan, Plan, ShieldPlan, Tensor
from smoe_cli.plan.vision import sight_of
from smoe_cli.recipe import Problem
from smoe_cli.recipe.checks.partition import check_partition
from smoe_cli.recipe.effects import present
from smoe_cli.recipe.models import Phase, Recipe


def compile_plan(recipe: Recipe, processes: int = 1, source: Source | None = None) -> Plan:
    """Works out everything that follows from `recipe`, which the loader has checked.

    processes: data-parallel processes that the memory is worked out for; nothing else depends on it.
    source: what the recipe's files hold; None to read them (headers only, no weights).
    Raises PlanError with everything that is wrong with the files, with how the recipe fits the backbone they hold, and with the
    phases' roles, which only the plan knows.
    """
    source = source or Source.read(recipe)
    model, backbone = recipe.model, source.backbone
    _raise([*check_family(recipe, source)] or check_config(recipe, source))
    problems = [*check_promotion(recipe, source), *check_profile(recipe, source)]
    promoted: Layers = ()
    routed = routed_experts(recipe, backbone)
    if not problems:  # otherwise it cannot be said which experts are left to the groups
        promoted = promote(source.profile, routed.promoted) if source.profile and routed.promoted else ()
        if model.backbone.scratch is None:  # the loader has looked at those from scratch
            problems += check_partition(model.groups, routed, promoted)
    _raise([*problems, *check_fit(recipe, source)])
    groups = compile_groups(recipe, routed, promoted, source.profile)
    sight = sight_of(model, source)
    _raise([*check_groups(groups, backbone, routed), *check_rows(recipe, sight.tokens if sight else 0)])
    top_k = routed.top_k
    tensors = model_tensors(model, backbone, sight, groups, promoted)
    parameters = count(tensors, backbone, without_shared=model.shared == "none")
    modalities: tuple[str, ...] = present(model)
    active = {modality: active_parameters(model, parameters, groups, top_k, modality) for modality in modalities}
    values = Kept.of(recipe, backbone, sight, tensors, top_k)
    phases, problems = _phases(recipe, tensors, parameters, active, values, processes)
    _raise(problems)
    return Plan(
        name=recipe.name,
        vocab_size=backbone.vocab_size,
        sequence_length=recipe.data.sequence_length,
        groups=groups,
        group_of={modality: g for g, group in enumerate(groups) for modality in group.modalities},
        moe_layers=decoder_layers(recipe, backbone),
        top_k=top_k,
        promoted=promoted,
        kept=kept(source.profile, groups, promoted),
        image_positions=model.image_positions or ("mrope" if backbone.anatomy.positions == "mrope" else "shared"),
        vit_tokens=sight.tokens if sight else 0,
        vae_tokens=vae_tokens(model.latents),
        latent_dim=latent_dim(model.latents),
        tensors=tensors,
        roles=trainable_roles(tensors),
        phases=phases,
        total_steps=sum(phase.steps for phase in phases),
        total_tokens=sum(phase.tokens for phase in phases),
        parameters=parameters,
        active=active,
        flops={modality: flops(recipe, backbone, sight, tensors, active[modality], modality) for modality in modalities},
        processes=processes,
        source=source,
    )


def _raise(problems: Iterable[Problem]) -> None:
    if found := list(problems):
        raise PlanError(found)


def _phases(
    recipe: Recipe,
    tensors: tuple[Tensor, ...],
    parameters: Parameters,
    active: dict[str, Active],
    values: Kept,
    processes: int,
) -> tuple[tuple[PhasePlan, ...], list[Problem]]:
    plans: list[PhasePlan] = []
    problems: list[Problem] = []
    trained: set[str] = set()
    for index, phase in enumerate(recipe.phases):
        rates, frozen, more = resolve(phase, index, trainable_roles(tensors))
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
                memory=memory(recipe, phase, values, tensors, set(rates), trained, processes),
            )
        )
    return tuple(plans), problems


def _shares(phase: Phase) -> dict[str, float]:
    total = sum(phase.mixture.values())
    return {source: weight / total for source, weight in phase.mixture.items()}

"""Which experts of each layer belong to which group."""

from __future__ import annotations

import hashlib

from smoe_cli.plan.errors import PlanError
from smoe_cli.plan.profile import Profile
from smoe_cli.plan.types import GroupPlan
from smoe_cli.recipe import Problem
from smoe_cli.recipe.models import Group, Recipe
from smoe_cli.recipe.routed import Routed

Layers = tuple[tuple[int, ...], ...]


def compile_groups(recipe: Recipe, routed: Routed, promoted: Layers, profile: Profile | None) -> tuple[GroupPlan, ...]:
    """Selects experts for every group, layer by layer, in the recipe's order.

    promoted: experts of each layer that are always on instead, or empty.
    The groups are a partition: every routed expert of every layer belongs to exactly one of them, mounted copies aside. The
    checks have seen to it that the recipe says so; without them this fails by assertion. Raises PlanError when a pool has too
    few.
    """
    groups = recipe.model.groups
    chosen: dict[str, list[tuple[int, ...]]] = {group.name: [] for group in groups if group.mount is None}
    for layer in range(routed.layers):
        free = [expert for expert in range(routed.total) if not promoted or expert not in promoted[layer]]
        for index, group in enumerate(groups):
            if group.mount is not None:
                continue
            choices = routed.choices(group, free)
            if isinstance(group.select, str) and len(choices) < min(group.experts, len(free)):
                raise PlanError([_too_few(index, group, len(choices))])
            picked = sorted(_select(group, choices, layer, recipe.seed, profile))
            assert len(picked) == group.experts, f"layer {layer}: {len(picked)} experts for `{group.name}`"
            assert set(picked) <= set(free), f"layer {layer}: experts of `{group.name}` are taken or do not exist"
            free = [expert for expert in free if expert not in set(picked)]
            chosen[group.name].append(tuple(picked))
        assert not free, f"layer {layer}: experts {free} belong to no group"
    plans: list[GroupPlan] = []
    for group in groups:
        if group.mount is None:
            taken = tuple(chosen[group.name])
            plans.append(GroupPlan(group.name, group.modalities, taken, routed.pool(taken[0][0])))
        else:
            source, mount = next(plan for plan in plans if plan.name == group.mount.group), group.mount
            copied = tuple(layer * (group.experts // source.size) for layer in source.experts)
            plans.append(GroupPlan(group.name, group.modalities, copied, source.pool, source.name, mount.noise))
    return tuple(plans)


def _too_few(index: int, group: Group, left: int) -> Problem:
    """Families with several pools of experts only."""
    served = " and ".join(f"`{modality}`" for modality in group.modalities)
    message = f"`{group.name}` has {group.experts} experts, but {left} are left of those that the family keeps for {served}"
    return Problem(("model", "groups", index, "experts"), message, "lower it, put this group first, or list its experts")


def _select(group: Group, free: list[int], layer: int, seed: int, profile: Profile | None) -> list[int]:
    match group.select:
        case "rest":
            return free
        case "first":
            return free[: group.experts]
        case "last":
            return free[-group.experts :]
        case "random":
            # Ordered by a hash rather than drawn by `random`, whose algorithms may change between Python versions.
            return sorted(free, key=lambda expert: _draw(seed, layer, expert))[: group.experts]
        case "most-activated" | "least-activated":
            assert profile is not None
            score = activations(profile, group.modalities, layer)
            sign = -1 if group.select == "most-activated" else 1
            return sorted(free, key=lambda expert: (sign * score[expert], expert))[: group.experts]
    if by_layer := [listed for listed in group.select if isinstance(listed, tuple)]:
        return list(by_layer[layer])
    return [expert for expert in group.select if isinstance(expert, int)]


def activations(profile: Profile, modalities: tuple[str, ...], layer: int) -> list[int]:
    """How often each expert of a layer was used by tokens of these modalities, or by all if the profile has none of them."""
    seen = [modality for modality in modalities if modality in profile.counts] or list(profile.counts)
    return [sum(uses) for uses in zip(*(profile.counts[modality][layer] for modality in seen), strict=True)]


def promote(profile: Profile, number: int) -> Layers:
    """For each layer the most activated experts over all modalities, ascending; ties go to the lower index."""
    layers = []
    for layer in range(len(profile.layers)):
        score = activations(profile, (), layer)
        layers.append(tuple(sorted(sorted(range(len(score)), key=lambda expert: (-score[expert], expert))[:number])))
    return tuple(layers)


def _draw(seed: int, layer: int, expert: int) -> bytes:
    return hashlib.sha256(f"{seed}/{layer}/{expert}".encode()).digest()

"""Which experts of each layer belong to which group."""

from __future__ import annotations

import hashlib

from smoe_cli.plan.types import GroupPlan
from smoe_cli.recipe.models import Group, Recipe


def compile_groups(recipe: Recipe) -> tuple[GroupPlan, ...]:
    """Selects experts for every group, layer by layer, in the recipe's order.

    The groups are a partition: every expert of every layer belongs to exactly one of them. The loader has checked that the
    recipe says so; a recipe that it has not seen fails here by assertion.
    """
    scratch, groups = recipe.model.backbone.scratch, recipe.model.groups
    chosen: list[list[tuple[int, ...]]] = [[] for _ in groups]
    for layer in range(scratch.num_hidden_layers):
        free = list(range(scratch.num_experts))
        for group, layers in zip(groups, chosen, strict=True):
            picked = sorted(_select(group, free, layer, recipe.seed))
            assert len(picked) == group.experts, f"layer {layer}: {len(picked)} experts for `{group.name}`"
            assert set(picked) <= set(free), f"layer {layer}: experts of `{group.name}` are taken or do not exist"
            free = [expert for expert in free if expert not in set(picked)]
            layers.append(tuple(picked))
        assert not free, f"layer {layer}: experts {free} belong to no group"
    return tuple(GroupPlan(group.name, group.modalities, tuple(layers)) for group, layers in zip(groups, chosen, strict=True))


def _select(group: Group, free: list[int], layer: int, seed: int) -> list[int]:
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
    if by_layer := [listed for listed in group.select if isinstance(listed, tuple)]:
        return list(by_layer[layer])
    return [expert for expert in group.select if isinstance(expert, int)]


def _draw(seed: int, layer: int, expert: int) -> bytes:
    return hashlib.sha256(f"{seed}/{layer}/{expert}".encode()).digest()

"""The split of the experts: every modality served once, every expert in one group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoe_cli.recipe.checks.model import MAX_EXPERTS
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.effects import INTERFACE, present
from smoe_cli.recipe.models import Group, Recipe
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import all_of, count

_GROUPS: Path = ("model", "groups")


def check_experts(recipe: Recipe) -> Iterator[Problem]:
    """Groups and shared experts."""
    yield from _modalities(recipe)
    yield from _names(recipe.model.groups)
    scratch, groups = recipe.model.backbone.scratch, recipe.model.groups
    for index, group in enumerate(groups):
        if group.experts < scratch.num_experts_per_tok <= scratch.num_experts:
            message = (
                f"`{group.name}` has {count(group.experts, 'expert')}, but a token is sent to {scratch.num_experts_per_tok}"
            )
            yield Problem((*_GROUPS, index, "experts"), message, "raise it, or lower `num_experts_per_tok`")
    total = sum(group.experts for group in groups)
    if total != scratch.num_experts:
        sizes = " + ".join(str(group.experts) for group in groups)
        summed = f"{sizes} = {total:,}" if len(groups) > 1 else sizes
        message = f"the groups have {summed} experts, but `num_experts` is {scratch.num_experts:,}"
        yield Problem(_GROUPS, message, "every expert belongs to exactly one group", key=True)
    if scratch.num_experts * scratch.num_hidden_layers <= MAX_EXPERTS:
        yield from _selections(groups, scratch.num_experts, scratch.num_hidden_layers, complete=total == scratch.num_experts)


def _modalities(recipe: Recipe) -> Iterator[Problem]:
    here = present(recipe.model)
    owner: dict[str, str] = {}
    for index, group in enumerate(recipe.model.groups):
        for position, modality in enumerate(group.modalities):
            path = (*_GROUPS, index, "modalities", position)
            if modality not in here:
                part = INTERFACE[modality]
                message = f"`{group.name}` serves `{modality}`, but the model has no `{part}`"
                yield Problem(path, message, f"add `model.{part}`, or remove `{modality}`")
            elif modality in owner:
                by = "twice" if owner[modality] == group.name else f"by `{owner[modality]}` already"
                yield Problem(path, f"`{modality}` is served {by}", "every modality belongs to exactly one group")
            owner.setdefault(modality, group.name)
    if lacking := [modality for modality in here if modality not in owner]:
        verb = "is" if len(lacking) == 1 else "are"
        message = f"{all_of(lacking)} {verb} served by no group"
        yield Problem(_GROUPS, message, "every modality belongs to exactly one group", key=True)
    shared = recipe.model.shared.modalities
    yield from repeated(shared, ("model", "shared", "modalities"))


def repeated(values: Sequence[object], path: Path) -> Iterator[Problem]:
    """A value that stands in a list twice to no effect."""
    for position, value in enumerate(values):
        if value in values[:position]:
            yield Problem((*path, position), f"`{value}` is listed twice")


def _names(groups: Sequence[Group]) -> Iterator[Problem]:
    names = [group.name for group in groups]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(
                (*_GROUPS, index, "name"), f"another group is named `{name}`", "roles are called by it: `experts.<name>`"
            )


def _selections(groups: Sequence[Group], experts: int, layers: int, complete: bool) -> Iterator[Problem]:
    """Follows the groups in order. `complete`: their sizes add up, so that `rest` is known to fit if it comes last."""
    per_layer = any(_per_layer(group) for group in groups)
    taken: list[dict[int, str]] = [{} for _ in range(layers if per_layer else 1)]
    unknown: str | None = None  # an earlier group whose experts are drawn by seed
    for index, group in enumerate(groups):
        path = (*_GROUPS, index, "select")
        if isinstance(group.select, tuple):
            if unknown:
                message = f"these experts may be among those drawn at random for `{unknown}`"
                yield Problem(path, message, f"put this group before `{unknown}`")
                return
            yield from _lists(group, path, experts, layers, taken)
        elif group.select == "rest":
            if index < len(groups) - 1:
                message = f"`{group.name}` takes the rest, but more groups follow"
                help = "say which experts it takes (`select: first`, `last`, `random` or a list), or put it last"
                yield Problem(path, message, help)
                return
            if complete and any(len(layer) != experts - group.experts for layer in taken if not unknown):
                return  # an earlier list is of the wrong length, which is reported there
        elif group.select == "random":
            unknown = unknown or group.name
        elif not unknown:
            for layer in taken:
                free = [expert for expert in range(experts) if expert not in layer]
                chosen = free[: group.experts] if group.select == "first" else free[-group.experts :]
                layer.update(dict.fromkeys(chosen, group.name))


def _per_layer(group: Group) -> bool:
    return isinstance(group.select, tuple) and bool(group.select) and isinstance(group.select[0], tuple)


def _lists(group: Group, path: Path, experts: int, layers: int, taken: list[dict[int, str]]) -> Iterator[Problem]:
    assert isinstance(group.select, tuple)
    if not _per_layer(group):
        indices = [index for index in group.select if isinstance(index, int)]
        # One list for layers in which different experts are taken: the same mistake is told once.
        yield from dict.fromkeys(problem for layer in taken for problem in _list(group, indices, path, experts, layer))
        return
    if len(group.select) != layers:
        message = f"{count(len(group.select), 'list')} of experts for {count(layers, 'layer')}"
        yield Problem(path, message, "one list for each layer, or a single list for all")
        return
    for number, (own, layer) in enumerate(zip(group.select, taken, strict=True)):
        assert isinstance(own, tuple)
        yield from _list(group, own, (*path, number), experts, layer)


def _list(group: Group, indices: Sequence[int], path: Path, experts: int, taken: dict[int, str]) -> Iterator[Problem]:
    """Checks one list of experts, and takes them."""
    if len(indices) != group.experts:
        yield Problem(path, f"{count(len(indices), 'expert')} listed, but `{group.name}` has `experts: {group.experts}`")
    mine: set[int] = set()
    for position, expert in enumerate(indices):
        at = (*path, position)
        if not 0 <= expert < experts:
            yield Problem(at, f"there is no expert {expert}", f"experts are numbered from 0 to {experts - 1}")
        elif expert in mine:
            yield Problem(at, f"expert {expert} is listed twice")
        elif expert in taken:
            yield Problem(
                at, f"expert {expert} belongs to `{taken[expert]}` already", "every expert belongs to exactly one group"
            )
        mine.add(expert)
    taken.update(dict.fromkeys(mine - set(taken), group.name))

"""The split of the experts: every expert in one group, every group large enough for its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.models import Group
from smoe_cli.recipe.routed import Routed
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import count

_GROUPS: Path = ("model", "groups")
_NUMBERED = "every expert belongs to exactly one group"

Taken = list[dict[int, str]]
"""For each layer that differs, why an expert is not free."""


def check_partition(groups: Sequence[Group], routed: Routed, promoted: Sequence[Sequence[int]] = ()) -> Iterator[Problem]:
    """Sizes and choices, mounted groups aside, which take no expert away. promoted: for each layer, if any are."""
    for index, group in enumerate(groups):
        if group.experts < routed.top_k <= routed.split:
            message = f"`{group.name}` has {count(group.experts, 'expert')}, but a token is sent to {routed.top_k_is}"
            help = f"raise it, or lower {routed.lower}" if routed.lower else "raise it"
            yield Problem((*_GROUPS, index, "experts"), message, help)
    taking = [(index, group) for index, group in enumerate(groups) if group.mount is None]
    total = sum(group.experts for _, group in taking)
    if total != routed.split:
        sizes = " + ".join(str(group.experts) for _, group in taking)
        summed = f"{sizes} = {total:,}" if len(taking) > 1 else sizes
        message = f"the groups have {summed} {'expert' if total == 1 else 'experts'}, but {routed.number_is}"
        help = _NUMBERED + ("; mounted groups do not count" if len(taking) < len(groups) else "")
        yield Problem(_GROUPS, message, help, key=True)
    yield from _selections(taking, routed, promoted, complete=total == routed.split)


def _selections(
    groups: Sequence[tuple[int, Group]], routed: Routed, promoted: Sequence[Sequence[int]], complete: bool
) -> Iterator[Problem]:
    """Follows the groups in order. `complete`: their sizes add up, so that `rest` is known to fit if it comes last."""
    taken: Taken = [{} for _ in range(routed.layers if any(_per_layer(group) for _, group in groups) else 1)]
    if promoted:
        taken = [dict.fromkeys(layer, f"is always on in layer {number}") for number, layer in enumerate(promoted)]
    unknown: str | None = None  # an earlier group whose experts are chosen by seed or profile
    for position, (index, group) in enumerate(groups):
        path = (*_GROUPS, index, "select")
        if isinstance(group.select, tuple):
            if unknown:
                message = f"these experts may be among those chosen for `{unknown}`"
                yield Problem(path, message, f"put this group before `{unknown}`")
                return
            yield from _lists(group, path, routed, taken)
        elif group.select == "rest":
            if position < len(groups) - 1:
                message = f"`{group.name}` takes the rest, but more groups follow"
                help = "say which experts it takes (`select: first`, `last`, `random` or a list), or put it last"
                yield Problem(path, message, help)
                return
            left = routed.total - group.experts
            if complete and any(len(layer) != left for layer in taken if not unknown):
                return  # an earlier list is of the wrong length, which is reported there
        elif group.select in ("first", "last") and not unknown:
            for layer in taken:
                free = routed.choices(group, [expert for expert in range(routed.total) if expert not in layer])
                chosen = free[: group.experts] if group.select == "first" else free[-group.experts :]
                layer.update(dict.fromkeys(chosen, f"belongs to `{group.name}` already"))
        else:
            unknown = unknown or group.name


def _per_layer(group: Group) -> bool:
    return isinstance(group.select, tuple) and bool(group.select) and isinstance(group.select[0], tuple)


def _lists(group: Group, path: Path, routed: Routed, taken: Taken) -> Iterator[Problem]:
    assert isinstance(group.select, tuple)
    if not _per_layer(group):
        indices = [index for index in group.select if isinstance(index, int)]
        # One list for layers in which different experts are taken: the same mistake is told once.
        yield from dict.fromkeys(problem for layer in taken for problem in _list(group, indices, path, routed, layer))
        return
    if len(group.select) != routed.layers:
        message = f"{count(len(group.select), 'list')} of experts for {count(routed.layers, 'layer')}"
        yield Problem(path, message, "one list for each layer that has experts, or a single list for all")
        return
    for number, (own, layer) in enumerate(zip(group.select, taken, strict=True)):
        assert isinstance(own, tuple)
        yield from _list(group, own, (*path, number), routed, layer)


def _list(group: Group, indices: Sequence[int], path: Path, routed: Routed, taken: dict[int, str]) -> Iterator[Problem]:
    """Checks one list of experts, and takes them."""
    if len(indices) != group.experts:
        yield Problem(path, f"{count(len(indices), 'expert')} listed, but `{group.name}` has `experts: {group.experts}`")
    mine: set[int] = set()
    for position, expert in enumerate(indices):
        at = (*path, position)
        if not 0 <= expert < routed.total:
            yield Problem(at, f"there is no expert {expert}", f"experts are numbered from 0 to {routed.total - 1}")
        elif expert in mine:
            yield Problem(at, f"expert {expert} is listed twice")
        elif expert in taken:
            help = _NUMBERED if "belongs" in taken[expert] else "promoted experts belong to no group"
            yield Problem(at, f"expert {expert} {taken[expert]}", help)
        mine.add(expert)
    taken.update(dict.fromkeys(mine - set(taken), f"belongs to `{group.name}` already"))

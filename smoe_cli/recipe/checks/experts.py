"""Expert groups: every modality served once, names, copies, and rules that need a profile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from smoe_cli.recipe.backbones import Backbone
from smoe_cli.recipe.checks.backbone import MAX_EXPERTS
from smoe_cli.recipe.checks.partition import check_partition
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.effects import INTERFACE, by_activation, present, shared_modalities
from smoe_cli.recipe.models import Group, Recipe
from smoe_cli.recipe.routed import scratch_experts
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import all_of, did_you_mean

_GROUPS: Path = ("model", "groups")

RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
    add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters pop register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory smart_apply state_dict to to_empty train training type update values xpu zero_grad
""",
    )
)
"""Attributes of `torch.nn.ModuleDict`, in which groups lie by their names, with those that transformers adds."""


def check_experts(recipe: Recipe) -> Iterator[Problem]:
    """Groups. Whether they share out the experts of a checkpoint is checked by the plan, which reads it."""
    yield from _modalities(recipe)
    yield from _names(recipe.model.groups)
    yield from _mounts(recipe.model.groups)
    yield from _profiled(recipe)
    routed = scratch_experts(recipe)
    if routed is not None and routed.total * routed.layers <= MAX_EXPERTS:
        yield from check_partition(recipe.model.groups, routed)


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
    yield from repeated(shared_modalities(recipe.model), ("model", "shared", "modalities"))


def repeated(values: Sequence[object], path: Path) -> Iterator[Problem]:
    """A value that stands in a list twice to no effect."""
    for position, value in enumerate(values):
        if value in values[:position]:
            yield Problem((*path, position), f"`{value}` is listed twice")


def _names(groups: Sequence[Group]) -> Iterator[Problem]:
    names = [group.name for group in groups]
    for index, name in enumerate(names):
        if name in RESERVED:
            message = f"a group cannot be named `{name}`: torch's modules have something else of this name"
            yield Problem((*_GROUPS, index, "name"), message, f"`{name}-experts` would do")
        if name in names[:index]:
            yield Problem(
                (*_GROUPS, index, "name"), f"another group is named `{name}`", "roles are called by it: `experts.<name>`"
            )


def _mounts(groups: Sequence[Group]) -> Iterator[Problem]:
    """Groups that copy another's experts."""
    for index, group in enumerate(groups):
        if group.mount is None:
            continue
        path = (*_GROUPS, index, "mount", "group")
        earlier = {other.name: other for other in groups[:index]}
        source = earlier.get(group.mount.group)
        if source is None:
            yield Problem(path, *_no_source(group, groups, earlier))
        elif source.mount is not None:
            message = f"`{source.name}` is itself mounted from `{source.mount.group}`"
            other = source.mount.group
            help = f"mount `{group.name}` from `{other}`: the copies are the same" if other != group.name else None
            yield Problem(path, message, help)
        elif group.experts % source.experts:
            message = f"`{group.name}` has {group.experts} experts, not a multiple of the {source.experts} of `{source.name}`"
            below, above = (
                group.experts // source.experts * source.experts,
                -(-group.experts // source.experts) * source.experts,
            )
            help = f"{below} or {above} would do" if below else f"{above} would do"
            yield Problem((*_GROUPS, index, "experts"), message, f"a group is copied whole: {help}")
    if all(group.mount is not None for group in groups):
        message = "every group is a copy of another: no group takes the backbone's experts"
        yield Problem(_GROUPS, message, key=True)


def _no_source(group: Group, groups: Sequence[Group], earlier: dict[str, Group]) -> tuple[str, str]:
    assert group.mount is not None
    name = group.mount.group
    if name == group.name:
        return f"`{name}` cannot be mounted from itself", "name an earlier group"
    if name in [other.name for other in groups]:
        return f"`{name}` comes after `{group.name}`", f"put `{name}` first"
    help = did_you_mean(name, list(earlier), "earlier groups") if earlier else "this is the first group: there is none to copy"
    return f"unknown group `{name}`", help


def _profiled(recipe: Recipe) -> Iterator[Problem]:
    """Rules that go by how often experts are used."""
    model = recipe.model
    if model.backbone == Backbone():
        return  # an error of its own, and what is missing cannot be known
    for path in by_activation(model):
        what = "promote" if path[-1] == "promote" else str(model.groups[int(path[-2])].select)
        if what == "promote" and model.backbone.scratch is not None:
            continue  # such a backbone has shared experts of its own, which is said there
        if model.backbone.pretrained is None:
            message = f"`{what}` goes by how often experts are used, and the experts of this backbone are new"
            yield Problem(path, message, "choose `first`, `last` or `random`" if what != "promote" else "remove it")
        elif model.profile is None:
            message = f"`{what}` goes by how often experts are used, which a profile says"
            yield Problem(path, message, "write one with `smoe profile MODEL --data …`, and name it in `model.profile`")

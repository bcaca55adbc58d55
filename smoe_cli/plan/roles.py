"""Roles, and what the recipe's role patterns mean: which rate each role trains with, and which roles are frozen.

A role is named exactly (`experts.generation`), by a pattern in which `*` stands for any characters (`experts.*`), or, in
`learning_rate` only, by `default`. The most specific entry wins: exact before pattern before default; of two patterns the
one whose roles are a part of the other's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from smoe_cli.plan.types import FIXED, Tensor
from smoe_cli.recipe import Problem
from smoe_cli.recipe.models import Phase
from smoe_cli.recipe.words import all_of, did_you_mean

DEFAULT = "default"
ORDER = ("experts", "router", "shared", "dense", "attention", "norms", "embeddings", "vision", "projector", "latents", FIXED)
"""Reading order of roles; groups keep the recipe's order."""

ABSENT = {
    "vision": "the model has no vision encoder (`model.vision`)",
    "projector": "the model has no vision encoder (`model.vision`)",
    "latents": "the model has no latent interface (`model.latents`)",
    "shared": "the model has no shared experts",
    "dense": "every layer of the backbone has experts",
}


def roles_of(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """Every role that some tensor has, once, in reading order."""
    seen = dict.fromkeys(tensor.role for tensor in tensors)
    return tuple(sorted(seen, key=lambda role: ORDER.index(role.split(".")[0])))


def trainable_roles(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """The same without FIXED: roles that have a rate or are frozen."""
    return tuple(role for role in roles_of(tensors) if role != FIXED)


def matching(entry: str, roles: Sequence[str]) -> tuple[str, ...]:
    """Roles that an entry of `learning_rate` or `freeze` names; `default` names all."""
    if entry == DEFAULT:
        return tuple(roles)
    pattern = re.compile(".*".join(map(re.escape, entry.split("*"))))
    return tuple(role for role in roles if pattern.fullmatch(role))


def resolve(phase: Phase, index: int, roles: Sequence[str]) -> tuple[dict[str, float], tuple[str, ...], list[Problem]]:
    """Rates and frozen roles of a phase.

    Returns {role: peak rate} for the trainable roles, the frozen roles, and the problems, whose paths start with
    ("phases", index). Without problems every role is either frozen or has exactly one rate.
    """
    frozen, problems = _frozen(phase, index, roles)
    if len(frozen) == len(roles):
        everything = Problem(("phases", index, "freeze"), "every role is frozen: the phase would train nothing")
        return {}, tuple(roles), [*problems, everything]
    rates, more = _rates(phase, index, roles, frozen)
    return rates, tuple(role for role in roles if role in frozen), problems + more


def _frozen(phase: Phase, index: int, roles: Sequence[str]) -> tuple[set[str], list[Problem]]:
    frozen: set[str] = set()
    problems = []
    for position, entry in enumerate(phase.freeze):
        path = ("phases", index, "freeze", position)
        if entry == DEFAULT:
            problems.append(Problem(path, "`default` is not a role", "name the roles to freeze"))
            continue
        matched = set(matching(entry, roles))
        if not matched:
            problems.append(_unknown(path, entry, roles, key=False))
        elif matched <= frozen:
            problems.append(Problem(path, f"`{entry}` has no effect: the entries before it freeze the same roles"))
        frozen |= matched
    return frozen, problems


def _rates(phase: Phase, index: int, roles: Sequence[str], frozen: set[str]) -> tuple[dict[str, float], list[Problem]]:
    path = ("phases", index, "learning_rate")
    problems = []
    matches: dict[str, frozenset[str]] = {}
    for entry in phase.learning_rate:
        matches[entry] = frozenset(matching(entry, roles))
        if not matches[entry]:
            problems.append(_unknown((*path, entry), entry, roles, key=True))
    best = {role: _most_specific(role, matches) for role in roles if role not in frozen}
    if unset := [role for role, entries in best.items() if not entries]:
        problems.append(
            Problem(path, f"no learning rate for {all_of(unset)}", "add an entry, or `default: …`, or freeze it", key=True)
        )
    for role, entries in best.items():
        if len(entries) > 1:
            alike = f"role `{role}` is named by {all_of(entries)}, and none is more specific"
            problems.append(Problem((*path, entries[1]), alike, f"add `{role}: …`", key=True))
    for entry, matched in matches.items():
        if matched and not any(entry in entries for entries in best.values()):
            problems.append(_no_effect((*path, entry), entry, matched - frozen, best))
    return {role: phase.learning_rate[entries[0]] for role, entries in best.items() if entries}, problems


def _most_specific(role: str, matches: dict[str, frozenset[str]]) -> list[str]:
    """Entries that name `role` and that no other entry beats; more than one when two patterns cannot be told apart."""
    if role in matches:
        return [role]
    patterns = [entry for entry, matched in matches.items() if entry != DEFAULT and role in matched]
    best = [entry for entry in patterns if not any(matches[other] < matches[entry] for other in patterns)]
    return best or [entry for entry in matches if entry == DEFAULT]


def _no_effect(path: tuple[str | int, ...], entry: str, live: frozenset[str], best: dict[str, list[str]]) -> Problem:
    if not live:
        frozen = f"`{entry}` has no effect: the roles it names are frozen in this phase"
        return Problem(path, frozen, "remove it here or in `freeze`", key=True)
    others = all_of(list(dict.fromkeys(other for role in sorted(live) for other in best[role])))
    beaten = f"`{entry}` has no effect: more specific entries decide: {others}"
    return Problem(path, beaten, "remove it", key=True)


def _unknown(path: tuple[str | int, ...], entry: str, roles: Sequence[str], key: bool) -> Problem:
    if entry in ABSENT:
        return Problem(path, f"no role `{entry}`: {ABSENT[entry]}", "remove it", key=key)
    known = "roles of this model"
    if "*" in entry:
        return Problem(path, f"no role matches `{entry}`", f"{known}: {', '.join(f'`{role}`' for role in roles)}", key=key)
    help = did_you_mean(entry, [*roles, DEFAULT] if key else roles, known)
    return Problem(path, f"unknown role `{entry}`", help, key=key)

"""Roles → optimizer groups. Every parameter that any phase trains is owned exactly once."""

from __future__ import annotations

import torch
from torch import nn

from smoe_cli.errors import Failure
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import AdamW


def role_of_parameters(model: nn.Module, plan: Plan) -> dict[str, str]:
    """{parameter name: role} of every parameter. Raises Failure if one has no role: a bug, since the plan names them all.

    Names inside the vision encoder vary with the version of transformers, so its parameters are known by their prefix.
    """
    planned = {t.name: t.role for t in plan.tensors}
    roles = {n: "vision" if n.startswith("vision.") else planned.get(n, "") for n, _ in model.named_parameters()}
    if lost := [n for n, role in roles.items() if not role]:
        raise Failure(
            f"parameters without a role: {', '.join(lost[:5])}", "this is a bug in smoe; please report it with the recipe"
        )
    return roles


def build_optimizer(model: nn.Module, plan: Plan, spec: AdamW) -> torch.optim.AdamW:
    """One group for each role that some phase trains, split by weight decay (tensors of two or more dimensions only).

    The trainer writes each group's `lr` before every step; `role` names the group. Roles that every phase freezes have none,
    hence no optimizer state.
    """
    roles = role_of_parameters(model, plan)
    trained = {role for phase in plan.phases for role in phase.rates}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if roles[name] in trained:
            groups.setdefault((roles[name], parameter.ndim >= 2), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": params, "role": role, "lr": 0.0, "weight_decay": spec.weight_decay if decays else 0.0}
            for (role, decays), params in sorted(groups.items(), key=lambda item: item[0])
        ],
        betas=spec.betas,
        eps=spec.eps,
    )
    owned = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(owned) == len(set(owned)) == sum(roles[n] in trained for n, _ in model.named_parameters())
    return optimizer


def freeze(model: nn.Module, roles: dict[str, str], trainable: frozenset[str]) -> None:
    """Only parameters of these roles take part in the backward pass; the others keep their bits.

    A frozen parameter has no gradient (None), and AdamW leaves such a parameter alone: no momentum, no weight decay.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(roles[name] in trainable)
        parameter.grad = None

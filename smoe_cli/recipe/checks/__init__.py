"""Checks that look at several keys at once, on a recipe whose values are valid one by one.

Each check yields problems with the exact path to blame. What can only be known from a checkpoint or from the built model
(its experts, its roles) is checked by the plan.
"""

from __future__ import annotations

from smoe_cli.recipe.checks.backbone import check_backbone
from smoe_cli.recipe.checks.data import check_data
from smoe_cli.recipe.checks.experts import check_experts
from smoe_cli.recipe.checks.model import check_model
from smoe_cli.recipe.checks.phases import check_phases
from smoe_cli.recipe.checks.training import check_evaluation, check_training
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.effects import idle, written
from smoe_cli.recipe.models import Recipe

__all__ = ["check"]


def check(recipe: Recipe) -> list[Problem]:
    """Every problem of a recipe, none if it is sound."""
    problems: list[Problem] = []
    parts = (check_backbone, check_model, check_experts, check_data, check_phases, check_training, check_evaluation)
    for part in (*parts, _check_idle):
        problems += part(recipe)
    return problems


def _check_idle(recipe: Recipe) -> list[Problem]:
    found = {path: why for path, why in idle(recipe).items() if written(recipe, path)}
    return [Problem(path, f"`{path[-1]}` has no effect: {why}", key=True) for path, why in found.items()]

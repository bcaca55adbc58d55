"""Recipe → Plan: everything that can be known before a weight exists. Imports neither torch nor transformers."""

from smoe_cli.plan.compile import compile_plan
from smoe_cli.plan.errors import PlanError
from smoe_cli.plan.schedule import learning_rate, shield_factor
from smoe_cli.plan.source import Source
from smoe_cli.plan.types import FIXED, Flops, GroupPlan, Memory, Origin, PhasePlan, Plan, ShieldPlan, Tensor

__all__ = [
    "FIXED",
    "Flops",
    "GroupPlan",
    "Memory",
    "Origin",
    "PhasePlan",
    "Plan",
    "PlanError",
    "ShieldPlan",
    "Source",
    "Tensor",
    "compile_plan",
    "learning_rate",
    "shield_factor",
]

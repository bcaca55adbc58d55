"""Recipe → Plan: everything that can be known before a weight exists. Imports neither torch nor transformers."""

from smoe_cli.plan.compile import compile_plan
from smoe_cli.plan.errors import PlanError
from smoe_cli.plan.schedule import learning_rate, shield_factor
from smoe_cli.plan.types import Flops, GroupPlan, Memory, PhasePlan, Plan, ShieldPlan, Tensor

__all__ = [
    "Flops",
    "GroupPlan",
    "Memory",
    "PhasePlan",
    "Plan",
    "PlanError",
    "ShieldPlan",
    "Tensor",
    "compile_plan",
    "learning_rate",
    "shield_factor",
]

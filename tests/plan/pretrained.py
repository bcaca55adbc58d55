"""Recipes on small checkpoints, and profiles of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from smoe_cli.families import Backbone, open_checkpoint, read_backbone
from smoe_cli.plan import Plan, PlanError, compile_plan
from smoe_cli.plan.profile import Counts, Profile
from smoe_cli.recipe.models import Recipe
from tests.families.tiny import DENSE_FAMILIES, MULTIMODAL_FAMILIES
from tests.plan.recipes import SMALL

POOLED = "ernie4_5_vl_moe"
SPLIT = [
    {"name": "understanding", "modalities": ["text", "vit"], "experts": 6, "select": "first"},
    {"name": "generation", "modalities": ["vae"], "experts": 2},
]
POOLS = [
    {"name": "understanding", "modalities": ["text"], "experts": 8, "select": "first"},
    {"name": "generation", "modalities": ["vit", "vae"], "experts": 8},
]
UNSHARED = ("qwen3_moe", "olmoe", "qwen3_vl_moe")
"""Families without shared experts."""


def data_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """SMALL on the checkpoint in `folder`, as a plain tree. changes: dotted paths; None removes a key."""
    family = backbone_of(folder).family
    raw = copy.deepcopy(SMALL)
    model = raw["model"]
    way = (
        {"upcycle": {"from": str(folder), "experts": 8}} if family in DENSE_FAMILIES else {"pretrained": {"path": str(folder)}}
    )
    model |= {"backbone": way, "groups": copy.deepcopy(POOLS if family == POOLED else SPLIT)}
    del model["shared"]
    if family in UNSHARED:
        model["shared"] = "none"
    if family in MULTIMODAL_FAMILIES:
        model["vision"] = {"family": "own", "image_size": [32, 32]}
    for phase in raw["phases"]:
        phase |= {"learning_rate": {"default": 1e-3}, "shields": [], "freeze": []}
    for dotted, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in dotted.split(".")]
        node: Any = raw
        for part in parents:
            node = node[part]
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return raw


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    return Recipe.model_validate(data_of(folder, **changes))


def plan_of(folder: Path, **changes: Any) -> Plan:
    return compile_plan(recipe_of(folder, **changes))


def problems(folder: Path, **changes: Any) -> dict[str, str]:
    """{dotted path: message and help} of what is wrong."""
    try:
        plan_of(folder, **changes)
    except PlanError as error:
        return {".".join(map(str, p.path)): f"{p.message}\n{p.help}" for p in error.problems}
    return {}


def backbone_of(folder: Path) -> Backbone:
    return read_backbone(open_checkpoint(str(folder)))


def profile_of(backbone: Backbone, counts: dict[str, Counts]) -> Profile:
    """A profile whose mass is the square of its counts."""
    return Profile(
        family=backbone.family,
        sha256=backbone.sha256,
        layers=backbone.moe_layers,
        experts=backbone.num_experts,
        top_k=backbone.top_k,
        tokens=dict.fromkeys(counts, 1),
        counts=counts,
        mass={modality: tuple(tuple(float(n * n) for n in row) for row in rows) for modality, rows in counts.items()},
    )


RISING = tuple(tuple(range(layer, layer + 8)) for layer in range(3))
"""Counts of three layers in which higher numbers are used more."""

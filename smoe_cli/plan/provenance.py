"""Where a backbone comes from and what the recipe does to it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.plan.types import Plan
from smoe_cli.plan.units import count, indices
from smoe_cli.recipe import words
from smoe_cli.recipe.models import Recipe


def provenance(plan: Plan, recipe: Recipe, arrow: str = "→") -> Iterator[str]:
    """One line each: origin, what is added, what is promoted, what is left out. arrow: what the terminal can show."""
    yield _origin(plan, recipe)
    if recipe.model.backbone.upcycle is not None:
        yield from _upcycled(plan, recipe)
    mounted = any(group.mounted_from for group in plan.groups)
    if mounted and recipe.model.backbone.upcycle is None:
        yield f"added to the backbone by mounted copies: {count(plan.parameters.added)}"
    elif recipe.model.backbone.upcycle is None:
        yield f"added to the backbone by the split: {plan.parameters.added}"
    if plan.promoted:
        number, routed = len(plan.promoted[0]), plan.source.backbone.num_experts
        yield (
            f"promoted in every layer: {routed} {arrow} {routed - number} routed + {number} always on; "
            f"top-{plan.top_k + number} {arrow} {plan.top_k} + {number}"
        )
    if plan.parameters.left_out:
        yield f"left out: the checkpoint's shared experts, {count(plan.parameters.left_out)} parameters"
    if modules := plan.source.backbone.left_out:
        yield f"left out, as transformers does not build it: {', '.join(modules)}"


def _origin(plan: Plan, recipe: Recipe) -> str:
    spec, backbone = recipe.model.backbone, plan.source.backbone
    if spec.upcycle is not None:
        origin = f"{backbone.family} from {spec.upcycle.from_}, upcycled"
    elif spec.pretrained is not None:
        origin = f"{backbone.family} from {spec.pretrained.path}"
        origin += f" at {spec.pretrained.revision}" if spec.pretrained.revision else ""
    else:
        origin = f"{backbone.family} with fresh weights"
    dense = [layer for layer in range(backbone.layers) if layer not in plan.moe_layers]
    if not dense:
        return f"backbone: {origin}, {words.count(backbone.layers, 'layer')} with experts"
    which = f"layer {dense[0]}" if len(dense) == 1 else f"layers {indices(dense)}"
    return f"backbone: {origin}, {words.count(len(plan.moe_layers), 'layer')} with experts, {which} without"


def _upcycled(plan: Plan, recipe: Recipe) -> Iterator[str]:
    upcycle = recipe.model.backbone.upcycle
    assert upcycle is not None
    output = f", its output divided by {upcycle.shared + 1}" if upcycle.shared else ""
    exact = all(group.noise == 0 for group in plan.groups)
    starts = "the model starts as the dense one" if exact else "but for the noise the model starts as the dense one"
    yield f"every expert is a copy of its layer's feed-forward{output}; a token's weights sum to 1, so {starts}"
    yield f"added to the backbone by the copies: {count(plan.parameters.added)}"

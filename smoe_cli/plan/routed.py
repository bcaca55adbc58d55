"""The routed experts that groups share out: those of the backbone, less promoted ones, or the copies of a dense one."""

from __future__ import annotations

from smoe_cli.families import Backbone
from smoe_cli.recipe.models import Recipe, Shared
from smoe_cli.recipe.routed import Routed, scratch_experts


def decoder_layers(recipe: Recipe, backbone: Backbone) -> tuple[int, ...]:
    """Layers of the built model that have experts, in order."""
    return tuple(range(backbone.layers)) if recipe.model.backbone.upcycle is not None else backbone.moe_layers


def routed_experts(recipe: Recipe, backbone: Backbone) -> Routed:
    """How many there are in every layer, and how they are numbered."""
    upcycle, shared = recipe.model.backbone.upcycle, recipe.model.shared
    layers = len(decoder_layers(recipe, backbone))
    if upcycle is not None:
        return Routed(
            pools=(upcycle.experts,),
            layers=layers,
            top_k=upcycle.top_k,
            number_is=f"`upcycle` makes {upcycle.experts:,}",
            top_k_is=str(upcycle.top_k),
            lower="`upcycle.top_k`",
        )
    promoted = shared.promote if isinstance(shared, Shared) and shared.promote is not None else 0
    if (fresh := scratch_experts(recipe)) is not None:
        return fresh
    number = f"the checkpoint has {backbone.num_experts:,} in every layer"
    if promoted:
        number += f", of which {promoted} {'is' if promoted == 1 else 'are'} promoted"
    return Routed(
        pools=backbone.pool_sizes,
        layers=layers,
        top_k=backbone.top_k - promoted,
        number_is=number,
        top_k_is=f"{backbone.top_k - promoted} routed ones" if promoted else str(backbone.top_k),
        pool_modalities=backbone.anatomy.pool_modalities,
        promoted=promoted,
    )

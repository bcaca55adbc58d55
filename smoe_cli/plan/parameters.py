"""How many parameters the model has, and how many a token of each modality uses.

*Active* for a token of a modality are the parameters it passes through between its input and its loss:

- decoder: attention, norms, feed-forwards of layers without experts, the router of its group, and as many of its group's
  experts in every layer as a token is sent to; the shared experts if they serve the modality;
- `text`: the input embedding and the output head, in full (once, when tied), as published counts of language models do;
- `vit`: the vision encoder and the projector;
- `vae`: the latent interface.

Other modalities' entrances and exits are not counted: a `vae` token meets neither the embedding nor the output head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from smoe_cli.families import Backbone
from smoe_cli.plan.roles import roles_of
from smoe_cli.plan.types import Active, GroupPlan, Parameters, Tensor
from smoe_cli.recipe.effects import shared_modalities
from smoe_cli.recipe.models import Model

DOORS = {"text": {"embeddings"}, "vit": {"vision", "projector"}, "vae": {"latents"}}
"""Roles outside the decoder layers that tokens of a modality pass through."""

_SIGHT = ("vision", "projector")


def count(tensors: Sequence[Tensor], backbone: Backbone, without_shared: bool) -> Parameters:
    """Totals of a model, by role and by part. backbone: the plain one. without_shared: its shared experts are left out."""
    roles = dict.fromkeys(roles_of(tensors), 0)
    numbers = dict.fromkeys(roles, 0)
    parts = dict.fromkeys(("backbone", "vision", "projector", "latents"), 0)
    for tensor in tensors:
        roles[tensor.role] += tensor.numel
        numbers[tensor.role] += 1
        parts[_part(tensor, backbone)] += tensor.numel
    plain = left_out = 0
    for name, shape in backbone.tensors.items():
        kind = backbone.part(name).kind
        plain += math.prod(shape) if kind not in _SIGHT else 0
        left_out += math.prod(shape) if without_shared and kind in ("shared", "shared_gate") else 0
    added = parts["backbone"] - (plain - left_out)
    return Parameters(total=sum(parts.values()), added=added, left_out=left_out, roles=roles, tensors=numbers, **parts)


def _part(tensor: Tensor, backbone: Backbone) -> str:
    """backbone, vision, projector or latents; a multimodal backbone's own encoder is not part of the decoder."""
    part, _, name = tensor.name.partition(".")
    kind = backbone.part(name).kind if part == "backbone" and name in backbone.tensors else None
    return kind if kind in _SIGHT else part


def active_parameters(model: Model, parameters: Parameters, groups: tuple[GroupPlan, ...], top_k: int, modality: str) -> Active:
    """Active parameters for a token of `modality`, by role."""
    group = next(group for group in groups if modality in group.modalities)
    experts = f"experts.{group.name}"
    whole = {f"router.{group.name}", "attention", "norms", "dense"} | DOORS[modality]
    if modality in shared_modalities(model):
        whole.add("shared")
    roles = {role: total for role, total in parameters.roles.items() if role in whole or role == experts}
    roles[experts] = roles[experts] // group.size * top_k
    return Active(sum(roles.values()), roles)

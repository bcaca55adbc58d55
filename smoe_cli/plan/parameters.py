"""How many parameters the model has, and how many a token of each modality uses.

*Active* for a token of a modality are the parameters it passes through between its input and its loss:

- decoder: attention, norms, the router of its group, and `num_experts_per_tok` of its group's experts in every layer; the
  shared experts if they serve the modality;
- `text`: the input embedding and the output head, in full (once, when tied), as published counts of language models do;
- `vit`: the vision encoder and the projector;
- `vae`: the latent interface.

Other modalities' entrances and exits are not counted: a `vae` token meets neither the embedding nor the output head.
"""

from __future__ import annotations

from collections.abc import Sequence

from smoe_cli.plan.roles import roles_of
from smoe_cli.plan.types import Active, GroupPlan, Parameters, Tensor
from smoe_cli.recipe.models import Model

DOORS = {"text": {"embeddings"}, "vit": {"vision", "projector"}, "vae": {"latents"}}
"""Roles outside the decoder layers that tokens of a modality pass through."""


def count(tensors: Sequence[Tensor], backbone_before: int) -> Parameters:
    """Totals of a model, by role and by part. backbone_before: parameters of the decoder before its experts are split."""
    roles = dict.fromkeys(roles_of(tensors), 0)
    numbers = dict.fromkeys(roles, 0)
    parts = dict.fromkeys(("backbone", "vision", "projector", "latents"), 0)
    for tensor in tensors:
        roles[tensor.role] += tensor.numel
        numbers[tensor.role] += 1
        parts[tensor.name.split(".")[0]] += tensor.numel
    added = parts["backbone"] - backbone_before
    return Parameters(total=sum(parts.values()), added=added, roles=roles, tensors=numbers, **parts)


def backbone_before(model: Model, vocab_size: int) -> int:
    """Parameters of the transformers decoder before its experts are split; the yardstick for what the split adds."""
    s = model.backbone.scratch
    d, head_dim = s.hidden_size, s.hidden_size // s.num_attention_heads
    q, kv = s.num_attention_heads * head_dim, s.num_key_value_heads * head_dim
    attention = (q + 2 * kv) * (d + 1) + d * q
    experts = s.num_experts * (3 * d * s.moe_intermediate_size + d)  # gate, up, down and a row of the router each
    shared = 3 * d * model.shared.count * model.shared.intermediate_size + d
    embeddings = vocab_size * d * (1 if s.tie_word_embeddings else 2)
    return s.num_hidden_layers * (attention + experts + shared + 2 * d) + d + embeddings


def active_parameters(model: Model, parameters: Parameters, groups: tuple[GroupPlan, ...], modality: str) -> Active:
    """Active parameters for a token of `modality`, by role."""
    group = next(group for group in groups if modality in group.modalities)
    experts = f"experts.{group.name}"
    whole = {f"router.{group.name}", "attention", "norms"} | DOORS[modality]
    if modality in model.shared.modalities:
        whole.add("shared")
    roles = {role: total for role, total in parameters.roles.items() if role in whole or role == experts}
    roles[experts] = roles[experts] // group.size * model.backbone.scratch.num_experts_per_tok
    return Active(sum(roles.values()), roles)

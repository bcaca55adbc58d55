"""Surgery: each MoE block of a transformers decoder is replaced by one whose experts are split into groups.

Expert weights and router rows are carried over unchanged; no parameter is added.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from smoe_cli.model.anatomy import Anatomy, anatomy_of
from smoe_cli.model.experts import gather, rows_of, run_experts
from smoe_cli.model.routing import LayerRouting, Routing
from smoe_cli.model.shield import Shielding
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import MODALITIES


class SymbioticBlock(nn.Module):
    """An MoE block with one router and one experts module per group, and the family's shared experts behind the shields.

    `routing` is set by the decoder layer's own forward (see `_RoutedLayer`) just before it calls the block.
    """

    routing: Routing | None = None

    def __init__(self, original: nn.Module, plan: Plan, layer: int, anatomy: Anatomy, shared_modalities: Sequence[str]):
        super().__init__()
        self.layer = layer
        self.group_of = tuple(plan.group_of.get(m, -1) for m in MODALITIES)
        self.bypass_shared = tuple(i for i, m in enumerate(MODALITIES) if m not in shared_modalities)
        router, experts = getattr(original, anatomy.router), getattr(original, anatomy.experts)
        picks = {group.name: torch.tensor(group.experts[layer]) for group in plan.groups}
        self.router = nn.ModuleDict({name: _pick(router, pick, anatomy) for name, pick in picks.items()})
        self.experts = nn.ModuleDict({name: _pick(experts, pick, anatomy) for name, pick in picks.items()})
        self.shared_expert = getattr(original, anatomy.shared)
        self.shared_expert_gate = getattr(original, anatomy.shared_gate) if anatomy.shared_gate else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, S, D) → (B, S, D)."""
        x_TD = hidden_states.reshape(-1, hidden_states.shape[-1])
        routing = self.routing
        if routing is None:
            routing = Routing.all_text(x_TD.shape[0], self.group_of, len(self.experts), x_TD.device)
        shielding = Shielding(routing.shields)
        # in the original's order (shared experts, routed experts, gate), so that gradients are summed in its order too
        with shielding.inside():
            shared_TD = self.shared_expert(x_TD)
        routed_TD = self._routed(x_TD, routing)
        if self.shared_expert_gate is not None:
            with shielding.inside():
                shared_TD = F.sigmoid(self.shared_expert_gate(x_TD)) * shared_TD
        shared_TD = shielding.output(shared_TD)
        if self.bypass_shared:
            bypass_T1 = torch.stack([routing.modality_T == m for m in self.bypass_shared]).any(0).unsqueeze(-1)
            shared_TD = shared_TD.masked_fill(bypass_T1, 0.0)
        return (routed_TD + shared_TD).reshape(hidden_states.shape)

    def _routed(self, x_TD: Tensor, routing: Routing) -> Tensor:
        sorted_TD = x_TD if routing.order_T is None else gather(x_TD, routing.order_T)
        logits, weights, ids = zip(
            *(
                r(rows_of(sorted_TD, start, end))
                for r, (start, end) in zip(self.router.values(), routing.bounds(), strict=True)
            ),
            strict=True,
        )
        if routing.record:
            # recomputation has to repeat every operation, but its result is not taken a second time
            routing.layers.setdefault(self.layer, _observe(logits, ids, routing))
        return run_experts(x_TD, list(self.experts.values()), ids, weights, routing)


def _observe(logits: Sequence[Tensor], ids: Sequence[Tensor], routing: Routing) -> LayerRouting:
    """Assignments and probability sums of valid tokens. logits: per group (T_g, E_g); ids: (T_g, K)."""
    total = sum(z.shape[-1] for z in logits)
    counts = torch.zeros(len(MODALITIES) * total, dtype=torch.long, device=logits[0].device)
    sums, base = [], 0
    for z_TE, i_TK, (start, end) in zip(logits, ids, routing.bounds(), strict=True):
        tokens = slice(start, end) if routing.order_T is None else routing.order_T[start:end]
        modality_T = routing.modality_T[tokens]
        valid_T = torch.ones_like(modality_T, dtype=torch.bool) if routing.valid_T is None else routing.valid_T[tokens]
        slot_TK = (modality_T * total + base).unsqueeze(-1) + i_TK
        counts.scatter_add_(0, slot_TK.reshape(-1), valid_T.long().unsqueeze(-1).expand_as(i_TK).reshape(-1))
        sums.append((valid_T.unsqueeze(-1) * z_TE.float().softmax(-1)).sum(0))  # no matmul: autocast would make it bfloat16
        base += z_TE.shape[-1]
    return LayerRouting(counts.view(len(MODALITIES), total), tuple(sums))


def _pick(module: nn.Module, pick_E: Tensor, anatomy: Anatomy) -> nn.Module:
    """The same class with only the chosen experts: first dimension of every parameter, in ascending order of index."""
    picked = copy.copy(module)
    for name, value in vars(module).items():
        if isinstance(value, dict):
            setattr(picked, name, type(value)(value))  # hooks of one group are not those of another
    picked._parameters = {
        name: nn.Parameter(p.detach()[pick_E.to(p.device)].clone(), requires_grad=p.requires_grad)
        for name, p in module.named_parameters(recurse=False)
    }
    setattr(picked, anatomy.num_experts, len(pick_E))
    return picked


class _RoutedLayer:
    """Takes `routing` as a keyword of the decoder layer's own forward and hands it to the block.

    Inside the forward, because activation checkpointing runs exactly this again, with the same arguments: a hook or an
    attribute set from outside would be stale when forwards interleave.
    """

    def forward(self, hidden_states: Tensor, *args: object, routing: Routing | None = None, **kwargs: object) -> Tensor:
        block: SymbioticBlock = self._symbiotic_block  # type: ignore[attr-defined]
        block.routing = routing
        try:
            return super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        finally:
            block.routing = None


def operate(model: PreTrainedModel, plan: Plan, shared_modalities: Sequence[str] = MODALITIES) -> PreTrainedModel:
    """Split the experts of every MoE block of `model` as the plan says, in place.

    The decoder layers then accept the keyword `routing`, which the model's forward passes on; without it every token is text.
    With one group holding every expert, outputs and gradients equal the original's bit for bit.
    """
    anatomy = anatomy_of(model.config.model_type)
    for index, layer in enumerate(model.model.layers):
        block = SymbioticBlock(getattr(layer, anatomy.block), plan, index, anatomy, shared_modalities)
        setattr(layer, anatomy.block, block)
        layer.__class__ = _routed_class(type(layer))
        object.__setattr__(layer, "_symbiotic_block", block)  # a plain reference: the module is registered once, as the block
    return model


_CLASSES: dict[type, type] = {}


def _routed_class(cls: type) -> type:
    if cls not in _CLASSES:
        _CLASSES[cls] = type(cls.__name__, (_RoutedLayer, cls), {"__module__": cls.__module__})
    return _CLASSES[cls]

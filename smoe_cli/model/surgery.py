"""Surgery: each MoE block of a transformers decoder is replaced by one whose experts are split into groups.

Expert weights and router rows are carried over unchanged; no parameter is added, unless groups are mounted from others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from smoe_cli.errors import UserError
from smoe_cli.families import Anatomy, anatomy_of
from smoe_cli.model.experts import gather, rows_of, run_experts
from smoe_cli.model.promoted import promote, promote_rows, share_weights
from smoe_cli.model.routers import probabilities, slice_router
from smoe_cli.model.routing import LayerRouting, Routing
from smoe_cli.model.shield import Shielding
from smoe_cli.model.slices import pick
from smoe_cli.plan import Plan
from smoe_cli.recipe.nodes import MODALITIES


class SymbioticBlock(nn.Module):
    """An MoE block with one router and one experts module per group, and the always-on experts behind the shields.

    layer: number of the decoder layer; moe_index: its place among the layers that have experts. shared: modalities that receive
    the output of always-on experts; () leaves the original's out. renormalise: the family's rule, for promoted experts.
    `routing` is set by the decoder layer's own forward (see `_RoutedLayer`) just before it calls the block.
    """

    routing: Routing | None = None

    def __init__(
        self,
        original: nn.Module,
        plan: Plan,
        layer: int,
        moe_index: int,
        anatomy: Anatomy,
        shared: Sequence[str],
        renormalise: bool,
    ):
        super().__init__()
        self.layer, self.scoring, self.renormalise = layer, anatomy.scoring, renormalise
        self.top_k, self.shared_last, self.one_pool = plan.top_k, anatomy.shared_last, len(anatomy.pools) == 1
        self.group_of = tuple(plan.group_of.get(m, -1) for m in MODALITIES)
        self.bypass_shared = tuple(i for i, m in enumerate(MODALITIES) if m not in shared)
        pools = [original.get_submodule(path) if path else original for path in anatomy.pools]
        routers = [getattr(pool, anatomy.router) for pool in pools]
        experts = [getattr(pool, anatomy.experts) for pool in pools]
        self.router, self.experts = nn.ModuleDict(), nn.ModuleDict()
        for group in plan.groups:
            before = sum(router.num_experts for router in routers[: group.pool])
            chosen = [expert - before for expert in group.experts[moe_index]]
            self.router[group.name] = slice_router(routers[group.pool], chosen, plan.top_k, anatomy)
            self.experts[group.name] = pick(experts[group.pool], torch.tensor(chosen))
        always_on = plan.promoted[moe_index] if plan.promoted else ()
        self.promoted = promote(experts[0], always_on) if always_on else None
        self.promoted_router = promote_rows(routers[0], always_on) if always_on else None
        self.shared_expert = getattr(original, anatomy.shared) if anatomy.shared and shared else None
        self.shared_expert_gate = getattr(original, anatomy.shared_gate) if anatomy.shared_gate and shared else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, S, D) → (B, S, D)."""
        x_TD = hidden_states.reshape(-1, hidden_states.shape[-1])
        routing = self.routing
        if routing is None:
            routing = Routing.all_text(x_TD.shape[0], self.group_of, len(self.experts), x_TD.device)
        shielding = Shielding(routing.shields)
        # in the original's order (its shared experts run before or after the routed ones, their gate last), so that gradients
        # are summed in its order too
        shared_TD = None if self.shared_last else self._shared(x_TD, shielding)
        if self.promoted is not None:
            routed_TD, shared_TD = self._with_promoted(x_TD, routing, shielding)
        else:
            routed_TD = self._routed(x_TD, routing)
        if self.shared_last:
            shared_TD = self._shared(x_TD, shielding)
        if shared_TD is None:
            return routed_TD.reshape(hidden_states.shape)
        if self.shared_expert is not None:
            if self.shared_expert_gate is not None:
                with shielding.inside():
                    shared_TD = F.sigmoid(self.shared_expert_gate(x_TD)) * shared_TD
            shared_TD = shielding.output(shared_TD)
        if self.bypass_shared:
            bypass_T1 = torch.stack([routing.modality_T == m for m in self.bypass_shared]).any(0).unsqueeze(-1)
            shared_TD = shared_TD.masked_fill(bypass_T1, 0.0)
        return (routed_TD + shared_TD).reshape(hidden_states.shape)

    def _shared(self, x_TD: Tensor, shielding: Shielding) -> Tensor | None:
        if self.shared_expert is None:
            return None
        with shielding.inside():
            return self.shared_expert(x_TD)

    def _routed(self, x_TD: Tensor, routing: Routing) -> Tensor:
        logits, weights, ids = self._routes(x_TD, routing)
        self._record(logits, ids, routing)
        if self.shared_last:
            x_TD = x_TD.view_as(x_TD)  # as in the original, what the experts send back is summed up before it joins the rest
        return run_experts(x_TD, list(self.experts.values()), ids, weights, routing, self.one_pool)

    def _routes(self, x_TD: Tensor, routing: Routing) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Logits, weights and indices of each group's tokens, by the family's rule."""
        sorted_TD = x_TD if routing.order_T is None else gather(x_TD, routing.order_T)
        routes = [
            r(rows_of(sorted_TD, start, end)) for r, (start, end) in zip(self.router.values(), routing.bounds(), strict=True)
        ]
        logits, weights, ids = zip(*routes, strict=True)
        return list(logits), list(weights), list(ids)

    def _with_promoted(self, x_TD: Tensor, routing: Routing, shielding: Shielding) -> tuple[Tensor, Tensor]:
        """Outputs of the routed and of the promoted experts.

        What the promoted experts make of a token, and their logits, are what leaves the shielded module.
        """
        assert self.promoted is not None
        assert self.promoted_router is not None
        with shielding.inside():
            logits_TM = self.promoted_router(x_TD)
            made_TMD = self.promoted(x_TD)
        logits_TM = shielding.output(logits_TM)
        made_TMD = shielding.output(made_TMD.flatten(1)).view_as(made_TMD)
        sorted_TM = logits_TM if routing.order_T is None else gather(logits_TM, routing.order_T)
        logits, _, _ = self._routes(x_TD, routing)
        weights, ids, always = [], [], []
        for z_TE, (start, end) in zip(logits, routing.bounds(), strict=True):
            weight_TK, id_TK, weight_TM = share_weights(z_TE, rows_of(sorted_TM, start, end), self.top_k, self.renormalise)
            weights.append(weight_TK)
            ids.append(id_TK)
            always.append(weight_TM)
        self._record(logits, ids, routing)
        routed_TD = run_experts(x_TD, list(self.experts.values()), ids, weights, routing)
        weight_TM = torch.cat(always)
        if routing.inverse_T is not None:
            weight_TM = gather(weight_TM, routing.inverse_T)
        return routed_TD, (made_TMD * weight_TM.unsqueeze(-1)).sum(1).to(x_TD.dtype)

    def _record(self, logits: Sequence[Tensor], ids: Sequence[Tensor], routing: Routing) -> None:
        if routing.record:
            # recomputation has to repeat every operation, but its result is not taken a second time
            routing.layers.setdefault(self.layer, _observe(logits, ids, routing, self.scoring))


def _observe(logits: Sequence[Tensor], ids: Sequence[Tensor], routing: Routing, scoring: str) -> LayerRouting:
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
        # no matmul: autocast would make it bfloat16
        sums.append((valid_T.unsqueeze(-1) * probabilities(z_TE, scoring)).sum(0))
        base += z_TE.shape[-1]
    return LayerRouting(counts.view(len(MODALITIES), total), tuple(sums))


class _RoutedLayer:
    """Takes `routing` as a keyword of the decoder layer's own forward and hands it to the block, if the layer has one.

    Inside the forward, because activation checkpointing runs exactly this again, with the same arguments: a hook or an
    attribute set from outside would be stale when forwards interleave.
    """

    def forward(self, hidden_states: Tensor, *args: object, routing: Routing | None = None, **kwargs: object) -> Tensor:
        block: SymbioticBlock | None = self._symbiotic_block  # type: ignore[attr-defined]
        if block is None:
            return super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        block.routing = routing
        try:
            return super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        finally:
            block.routing = None


def operate(
    model: PreTrainedModel, plan: Plan, shared_modalities: Sequence[str] = MODALITIES, anatomy: Anatomy | None = None
) -> PreTrainedModel:
    """Split the experts of every MoE block of `model` as the plan says, in place. Layers without experts are left alone.

    shared_modalities: who receives the output of the always-on experts; () leaves the family's shared experts out. anatomy:
    that of the family unless the layers have been changed. The decoder layers then accept the keyword `routing`, which the
    model's forward passes on; without it every token is text. With one group holding every expert, outputs and gradients equal
    the original's bit for bit. Raises UserError when other layers have experts than the plan says.
    """
    anatomy = anatomy or anatomy_of(model.config.model_type)
    config = model.config.get_text_config()
    rule = anatomy.renormalise
    renormalise = rule if isinstance(rule, bool) else bool(getattr(config, rule))
    layers = model.get_submodule(anatomy.decoder).layers
    assert isinstance(layers, nn.ModuleList)
    path = ".".join(part for part in (anatomy.pools[0], anatomy.router) if part)
    found = tuple(i for i, layer in enumerate(layers) if _has(getattr(layer, anatomy.block), path))
    if found != plan.moe_layers:
        raise UserError(
            f"the backbone has experts in layers {_numbers(found)} by its config, {_numbers(plan.moe_layers)} by its tensors",
            "config.json and the safetensors files do not belong together, or the files are incomplete",
        )
    for index, layer in enumerate(layers):
        block = None
        if index in found:
            original = getattr(layer, anatomy.block)
            block = SymbioticBlock(original, plan, index, found.index(index), anatomy, shared_modalities, renormalise)
            setattr(layer, anatomy.block, block)
        layer.__class__ = _routed_class(type(layer))
        object.__setattr__(layer, "_symbiotic_block", block)  # a plain reference: the module is registered once, as the block
    return model


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _numbers(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers)) or "none"


_CLASSES: dict[type, type] = {}


def _routed_class(cls: type) -> type:
    if cls not in _CLASSES:
        _CLASSES[cls] = type(cls.__name__, (_RoutedLayer, cls), {"__module__": cls.__module__})
    return _CLASSES[cls]

"""Promoted experts: routed experts of a family without shared ones that have become always on.

A token is sent to as many fewer routed experts of its group. Its weights are the family's softmax over the logits of its group
and of the promoted experts, rescaled to sum to 1 over the chosen and the promoted ones where the family rescales.

Suffixes: T tokens, E experts of the group, K routed experts per token, M promoted experts, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_cli.model.slices import pick


def promote(experts: nn.Module, indices: Sequence[int]) -> nn.Module:
    """The experts module reduced to `indices`, called with (T, D) rows, returning what each expert makes of each, (T, M, D)."""
    promoted = pick(experts, torch.tensor(indices))
    promoted.__class__ = _always_on(type(experts))
    return promoted


def promote_rows(router: nn.Module, indices: Sequence[int]) -> nn.Linear:
    """The router rows of the promoted experts, as a linear map from (T, D) to logits (T, M)."""
    rows = pick(router, torch.tensor(indices)).weight
    assert isinstance(rows, nn.Parameter)
    linear = nn.Linear(rows.shape[1], rows.shape[0], bias=False, device="meta")
    linear.weight = rows
    return linear


def share_weights(logits_TE: Tensor, promoted_TM: Tensor, top_k: int, renormalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (T, K) and indices (T, K) of the routed experts, and weights (T, M) of the promoted ones."""
    probabilities = F.softmax(torch.cat([logits_TE, promoted_TM], dim=-1), dim=-1, dtype=torch.float)
    experts = logits_TE.shape[-1]
    weight_TK, index_TK = probabilities[:, :experts].topk(top_k, dim=-1)
    weight_TM = probabilities[:, experts:]
    if renormalise:
        total_T1 = weight_TK.sum(-1, keepdim=True) + weight_TM.sum(-1, keepdim=True)
        weight_TK, weight_TM = weight_TK / total_T1, weight_TM / total_T1
    return weight_TK.to(logits_TE.dtype), index_TK, weight_TM.to(logits_TE.dtype)


class _AlwaysOn:
    """An experts module whose experts all see every token, by `F.linear`, as shields of mode `weights` need."""

    gate_up_proj: Tensor
    down_proj: Tensor

    def forward(self, x_TD: Tensor) -> Tensor:
        """(T, D) → (T, M, D)."""
        outputs = [
            F.linear(self._apply_gate(F.linear(x_TD, gate_up)), down)  # type: ignore[attr-defined]
            for gate_up, down in zip(self.gate_up_proj, self.down_proj, strict=True)
        ]
        return torch.stack(outputs, dim=1)


_CLASSES: dict[type, type] = {}


def _always_on(cls: Any) -> type:
    if cls not in _CLASSES:
        _CLASSES[cls] = type(cls.__name__, (_AlwaysOn, cls), {"__module__": cls.__module__})
    return _CLASSES[cls]

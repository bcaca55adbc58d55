"""Routers of groups: slices of the family's own router, with its class and its rule.

Suffixes: T tokens, E experts of the group, K experts per token, P parts (DeepSeek's "groups", arXiv 2412.19437, section 2.1.2),
M experts of the largest part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_cli.families import Anatomy
from smoe_cli.model.slices import pick


def slice_router(router: nn.Module, experts: Sequence[int], top_k: int, anatomy: Anatomy) -> nn.Module:
    """The rows of `router` that belong to `experts`, in order. It sends a token to `top_k` of them.

    Its result equals that of `router` with the other experts masked before its scoring and its choice. With all experts, it is
    the family's own code.
    """
    of = int(router.num_experts)  # type: ignore[arg-type]
    sliced: Any = pick(router, torch.tensor(experts))
    sliced.top_k = top_k
    parts = int(getattr(router, "num_group", 1)) if anatomy.limits else 1
    # the family's code adds up two scores a part, so that it needs two experts
    if anatomy.limits and ((parts > 1 and list(experts) != list(range(of))) or len(experts) < 2):
        sliced.__class__ = _limited_class(type(router))
        sliced._number_parts([e * parts // of for e in experts], parts)
    return sliced


def probabilities(logits_TE: Tensor, scoring: str) -> Tensor:
    """What the balance loss takes for a token's probabilities, float32, each row adding up to 1.

    Softmax; for sigmoid scores their share of the row's sum (DeepSeek-V3, equation 19).
    """
    if scoring == "softmax":
        return logits_TE.float().softmax(-1)
    scores_TE = logits_TE.float().sigmoid()
    return scores_TE / scores_TE.sum(-1, keepdim=True)


class _LimitedParts:
    """A router of a family that limits a token to its best parts, for a group that holds only some experts of each part.

    A part keeps its identity. Its score is the sum of its two best choice scores among the experts that are there (a missing
    one counts 0); a part with none is never chosen. Names are those of the family's class.
    """

    weight: Tensor
    e_score_correction_bias: Tensor
    part_E: Tensor
    member_PM: Tensor
    part_of: tuple[int, ...]
    parts: int
    top_k: int
    topk_group: int
    norm_topk_prob: bool
    routed_scaling_factor: float

    def _number_parts(self, part_of: Sequence[int], parts: int) -> None:
        """part_of: part of each expert. Fills member_PM, each part's experts; the number after the last stands for none."""
        self.part_of, self.parts = tuple(part_of), parts
        members = [[e for e, part in enumerate(part_of) if part == p] for p in range(parts)]
        width = max(2, *map(len, members))
        table = torch.tensor([m + [len(part_of)] * (width - len(m)) for m in members])
        self.register_buffer("part_E", torch.tensor(part_of), persistent=False)  # type: ignore[attr-defined]
        self.register_buffer("member_PM", table, persistent=False)  # type: ignore[attr-defined]

    def derive_buffers(self) -> None:
        """Fill the buffers again, which no file holds, after a loader that builds models without memory."""
        device = self.part_E.device
        self._number_parts(self.part_of, self.parts)
        self.part_E, self.member_PM = self.part_E.to(device), self.member_PM.to(device)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(…, D) → logits (T, E), weights (T, K), indices (T, K)."""
        x_TD = hidden_states.reshape(-1, hidden_states.shape[-1])
        logits_TE = F.linear(x_TD.float(), self.weight.float())
        scores_TE = logits_TE.sigmoid()
        choice_TE = scores_TE + self.e_score_correction_bias
        there_TPM = F.pad(choice_TE, (0, 1), value=float("-inf"))[:, self.member_PM]
        best_TP2 = there_TPM.topk(2, dim=-1)[0]
        part_TP = best_TP2.masked_fill(best_TP2.isneginf(), 0.0).sum(-1)
        part_TP = part_TP.masked_fill(self.member_PM[:, 0] == len(self.part_E), float("-inf"))
        chosen = part_TP.topk(self.topk_group, dim=-1, sorted=False)[1]
        open_TP = torch.zeros_like(part_TP, dtype=torch.bool).scatter_(1, chosen, True)
        choice_TE = choice_TE.masked_fill(~open_TP[:, self.part_E], float("-inf"))
        index_TK = choice_TE.topk(self.top_k, dim=-1, sorted=False)[1]
        weight_TK = scores_TE.gather(1, index_TK)
        if self.norm_topk_prob:
            weight_TK = weight_TK / (weight_TK.sum(dim=-1, keepdim=True) + 1e-20)
        return logits_TE, weight_TK * self.routed_scaling_factor, index_TK


_CLASSES: dict[type, type] = {}


def _limited_class(cls: Any) -> type:
    if cls not in _CLASSES:
        _CLASSES[cls] = type(cls.__name__, (_LimitedParts, cls), {"__module__": cls.__module__})
    return _CLASSES[cls]

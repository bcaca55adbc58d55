"""The loss of one optimizer step, with global denominators.

loss = w_text · CE + w_flow · flow + w_balance · balance (Symbiotic-MoE: 1.0, 1.0, 0.01). Each part is a sum over the whole
step (all micro-batches of all processes) divided by a count over the whole step, so that neither accumulation nor the number
of processes changes it.

Suffixes: L layers, M modalities, E experts (numbered group after group), F data sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_cli.model.model import Outputs
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import LossWeights
from smoe_cli.recipe.nodes import MODALITIES

Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Denominators:
    """Counts over the whole step: target tokens, latent values, valid tokens of each group, valid tokens of each modality."""

    text: float
    flow: float
    groups: tuple[float, ...]
    modalities: tuple[float, ...]


def denominators(counts: Mapping[str, int], plan: Plan, device: torch.device, reduce_sum: Reduce) -> Denominators:
    """From the loader's counts of this process's part of the step. reduce_sum adds a tensor over the processes."""
    names = [*(f"tokens/{m}" for m in MODALITIES), "targets", "latents"]
    *modalities, text, flow = reduce_sum(torch.tensor([counts[n] for n in names], device=device)).tolist()
    groups = [0.0] * len(plan.groups)
    for modality, group in plan.group_of.items():
        groups[group] += modalities[MODALITIES.index(modality)]
    return Denominators(float(text), float(flow), tuple(groups), tuple(map(float, modalities)))


class Balance:
    """Load balance of each expert group (Fedus et al. 2021, eq. 4), mean over layers, summed over groups (Symbiotic-MoE).

    balance_g = E_g · Σ_i f_i · p_i, with f_i the fraction of the group's assignments that expert i received and p_i its mean
    router probability (of sigmoid routers its share of the token's scores), over valid tokens of the group. Only p carries
    gradient. The value reported uses this step's f; the gradient uses the f of the step before, because this step's f is known
    only after its last micro-batch: the gradient is then the same for every accumulation and number of processes, which no
    formula on micro-batches gives.
    """

    def __init__(self, plan: Plan, device: torch.device):
        self.sizes = [len(group.experts[0]) for group in plan.groups]
        layers = len(plan.groups[0].experts)
        self.fraction_LE = torch.cat([torch.full((layers, n), 1.0 / n, device=device) for n in self.sizes], dim=1)

    def loss(self, outputs: Outputs, over: Denominators) -> Tensor:
        """This micro-batch's share of the step's balance loss, with gradient."""
        return self._sum(
            [torch.stack(sums) for sums in zip(*(layer.prob_sums for layer in outputs.routing), strict=True)], over
        )

    def update(self, counts_LME: Tensor, prob_sums: Sequence[Tensor], over: Denominators) -> Tensor:
        """Take in the step's global counts (L, M, E) and probability sums (L, E_g); returns the step's balance loss."""
        counts = counts_LME.sum(1).float().split(self.sizes, dim=1)
        self.fraction_LE = torch.cat(
            [torch.where((total := c.sum(1, keepdim=True)) > 0, c / total.clamp_min(1), 1.0 / c.shape[1]) for c in counts],
            dim=1,
        )
        return self._sum(prob_sums, over)

    def _sum(self, prob_sums: Sequence[Tensor], over: Denominators) -> Tensor:
        fractions = self.fraction_LE.split(self.sizes, dim=1)
        parts = [
            size * (fraction * sums / max(tokens, 1.0)).sum(1).mean()
            for size, fraction, sums, tokens in zip(self.sizes, fractions, prob_sums, over.groups, strict=True)
        ]
        return torch.stack(parts).sum()


def micro_loss(outputs: Outputs, weights: LossWeights, over: Denominators, balance: Balance) -> Tensor:
    """This micro-batch's share of the step's loss: shares add up to the loss over micro-batches and processes."""
    loss = weights.text * outputs.text_losses.sum() / max(over.text, 1.0)
    loss = loss + weights.flow * outputs.flow_losses.sum() / max(over.flow, 1.0)
    if weights.balance and outputs.routing:
        loss = loss + weights.balance * balance.loss(outputs, over)
    return loss

"""Counting what routers decide: a hook on each router adds its choices to a table by modality and expert."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from smoe_cli.errors import Failure
from smoe_cli.plan.profile import Counts, Masses, Profile
from smoe_cli.recipe.nodes import MODALITIES

STEP = 2**24
"""Weights are rounded to multiples of 1 / STEP, so that their sums are exact in float64 and in any order."""
PADDING = -1
"""Modality of a token that is not counted."""


class Tally:
    """Sums over the batches that were counted. L layers, M modalities, E experts over all pools, numbered pool after pool.

    counts, mass: (L, M, E) int64 on the CPU; mass in units of 1 / STEP.
    """

    def __init__(self, layers: int, experts: int):
        self.counts = torch.zeros(layers, len(MODALITIES), experts, dtype=torch.int64)
        self.mass = torch.zeros_like(self.counts)
        self.tokens = torch.zeros(len(MODALITIES), dtype=torch.int64)

    @classmethod
    def of(cls, profile: Profile) -> Tally:
        """The sums that a profile holds; the inverse of `tables`."""
        tally = cls(len(profile.layers), profile.experts)
        for i, modality in enumerate(MODALITIES):
            if modality in profile.tokens:
                tally.counts[:, i] = torch.tensor(profile.counts[modality])
                tally.mass[:, i] = (torch.tensor(profile.mass[modality], dtype=torch.float64) * STEP).round().long()
                tally.tokens[i] = profile.tokens[modality]
        return tally

    def add(self, other: Tally) -> None:
        """Add another one's sums."""
        self.counts += other.counts
        self.mass += other.mass
        self.tokens += other.tokens

    def tables(self) -> tuple[dict[str, int], dict[str, Counts], dict[str, Masses]]:
        """(tokens, counts, mass) of the modalities that occurred, as a profile holds them."""
        seen = {m: i for i, m in enumerate(MODALITIES) if self.tokens[i]}
        exact = self.mass.double() / STEP
        return (
            {m: int(self.tokens[i]) for m, i in seen.items()},
            {m: tuple(map(tuple, self.counts[:, i].tolist())) for m, i in seen.items()},
            {m: tuple(map(tuple, exact[:, i].tolist())) for m, i in seen.items()},
        )


class LayerTally:
    """One layer's table, where the layer lies, filled by the hooks of one forward pass and then fetched."""

    def __init__(self, experts: int):
        self.experts = experts
        self.counts: Tensor | None = None
        self.mass: Tensor | None = None
        self.finite: Tensor | None = None

    def add(self, modality_T: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> None:
        """Count assignments: token t, of modality_T[t] (PADDING: not counted), went to expert_TK[t] with weight_TK[t]."""
        slots = len(MODALITIES) * self.experts
        if self.counts is None or self.mass is None or self.finite is None:
            self.counts = torch.zeros(slots, dtype=torch.int64, device=expert_TK.device)
            self.mass = torch.zeros_like(self.counts)
            self.finite = torch.ones((), dtype=torch.bool, device=expert_TK.device)
        counted_TK = (modality_T != PADDING).long().unsqueeze(-1).expand_as(expert_TK)
        slot_TK = modality_T.clamp_min(0).unsqueeze(-1) * self.experts + expert_TK
        self.finite &= (torch.isfinite(weight_TK) | (counted_TK == 0)).all()
        units_TK = (weight_TK.float() * STEP).round().long() * counted_TK
        self.counts.scatter_add_(0, slot_TK.flatten(), counted_TK.flatten())
        self.mass.scatter_add_(0, slot_TK.flatten(), units_TK.flatten())

    def take(self) -> tuple[Tensor, Tensor]:
        """(counts, mass), each (M, E) on the CPU; the table is empty afterwards. Raises Failure if a weight was no number."""
        assert self.counts is not None, "the layer's router was not called"
        assert self.mass is not None
        if not self.finite:
            raise Failure("a router's weights are not finite", "compute in another type: --dtype float32")
        counts, mass = (t.view(len(MODALITIES), self.experts).cpu() for t in (self.counts, self.mass))
        self.counts = self.mass = self.finite = None
        return counts, mass


def collect(tables: Sequence[LayerTally], tokens: Tensor) -> Tally:
    """What the tables of all layers hold, which are empty afterwards. tokens: (M,) that were counted."""
    tally = Tally(len(tables), tables[0].experts)
    taken = [table.take() for table in tables]
    tally.counts = torch.stack([counts for counts, _ in taken])
    tally.mass = torch.stack([mass for _, mass in taken])
    tally.tokens = tokens.cpu()
    return tally


class RouterHooks:
    """Counts the choices of a plain model's own routers. They return (logits, weights, indices) of the tokens they are given:
    all of the batch, in order; with several pools, the tokens of their pool.

    routers: for each layer, for each pool, the router and its number of experts.
    """

    def __init__(self, routers: Sequence[Sequence[tuple[nn.Module, int]]]):
        self.pools = len(routers[0])
        self.tables = [LayerTally(sum(size for _, size in layer)) for layer in routers]
        self._modality_T = self._pool_T = torch.zeros(0, dtype=torch.int64)
        for table, layer in zip(self.tables, routers, strict=True):
            first = 0
            for pool, (router, size) in enumerate(layer):
                router.register_forward_hook(partial(self._count, table, pool, first))
                first += size

    def start(self, modality_T: Tensor, pool_T: Tensor) -> None:
        """Before a forward pass: modality of each token of the flattened batch (PADDING: not counted), and its pool."""
        self._modality_T, self._pool_T = modality_T, pool_T

    def finish(self) -> Tally:
        """After it: its sums."""
        real = self._modality_T[self._modality_T != PADDING]
        return collect(self.tables, torch.bincount(real, minlength=len(MODALITIES)))

    def _count(self, table: LayerTally, pool: int, first: int, module: nn.Module, args: object, output: object) -> None:
        assert isinstance(output, tuple)
        _, weight_TK, expert_TK = output
        modality_T = self._modality_T.to(expert_TK.device)
        if self.pools > 1:
            modality_T = modality_T[self._pool_T.to(expert_TK.device) == pool]
        assert len(modality_T) == len(expert_TK), "a router was called with other tokens than those of the batch"
        table.add(modality_T, expert_TK + first, weight_TK)

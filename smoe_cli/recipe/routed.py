"""The routed experts of a backbone, as far as groups are concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoe_cli.recipe.models import Group, Recipe


@dataclass(frozen=True)
class Routed:
    """pools: experts of each of the family's pools, which are numbered one after the other; most families have one.
    pool_modalities: what the family itself sends to each. layers: how many have experts. top_k: routed experts a token is sent
    to. promoted: experts of every layer that are always on, and no longer routed.

    number_is, top_k_is: where the numbers are given, for messages; lower: what to lower if top_k is too high, if it can be.
    """

    pools: tuple[int, ...]
    layers: int
    top_k: int
    number_is: str
    top_k_is: str
    lower: str | None = None
    pool_modalities: tuple[tuple[str, ...], ...] = ()
    promoted: int = 0

    @property
    def total(self) -> int:
        """Experts of a layer."""
        return sum(self.pools)

    @property
    def split(self) -> int:
        """Experts of a layer that the groups share out."""
        return self.total - self.promoted

    def pool(self, expert: int) -> int:
        """The pool that an expert lies in."""
        return next(number for number in range(len(self.pools)) if expert < sum(self.pools[: number + 1]))

    def choices(self, group: Group, free: Sequence[int]) -> list[int]:
        """Of the free experts those that `first`, `rest`, … choose from: of the one pool that the family itself sends the
        group's modalities to, or all of them where there is no such pool."""
        own = {n for n, served in enumerate(self.pool_modalities) if set(served) & set(group.modalities)}
        return [expert for expert in free if len(own) != 1 or self.pool(expert) in own]


def scratch_experts(recipe: Recipe) -> Routed | None:
    """Those of a backbone from scratch; None for others."""
    scratch = recipe.model.backbone.scratch
    if scratch is None:
        return None
    return Routed(
        pools=(scratch.num_experts,),
        layers=scratch.num_hidden_layers,
        top_k=scratch.num_experts_per_tok,
        number_is=f"`num_experts` is {scratch.num_experts:,}",
        top_k_is=str(scratch.num_experts_per_tok),
        lower="`num_experts_per_tok`",
    )

"""Who goes where: the routing of one forward pass, computed once and handed to every MoE block.

Suffixes of tensor names: T tokens of the whole batch (B × S, flattened), K experts per token, E experts, M modalities,
G expert groups, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from smoe_cli.recipe.nodes import TEXT, VIT


def inverse_of(permutation: Tensor) -> Tensor:
    """The permutation that undoes another one."""
    inverse = torch.empty_like(permutation)
    inverse[permutation] = torch.arange(permutation.numel(), device=permutation.device)
    return inverse


def with_frames(modality_BS: Tensor) -> Tensor:
    """The same, with the tokens right before and after an image to understand counted as `vit`: families with experts of their
    own for images send these there too (ERNIE-4.5-VL, `moe_mm_token_type_ids`)."""
    vit_BS = modality_BS == VIT
    beside_BS = torch.zeros_like(vit_BS)
    beside_BS[:, :-1] |= vit_BS[:, 1:]
    beside_BS[:, 1:] |= vit_BS[:, :-1]
    return modality_BS.masked_fill(beside_BS & (modality_BS == TEXT), VIT)


@dataclass(frozen=True)
class RowShield:
    """A shield as one forward pass sees it: a factor for each token."""

    mode: str
    factor_T1: Tensor


@dataclass
class LayerRouting:
    """What one layer's routers decided.

    counts_ME: int64, (token, expert) assignments of valid tokens; experts are numbered group after group.
    prob_sums: per group (E_g,) float32 with gradient, router probabilities summed over valid tokens.
    """

    counts_ME: Tensor
    prob_sums: tuple[Tensor, ...]


@dataclass
class Routing:
    """The tokens of one forward pass, sorted by expert group.

    order_T: int64, positions of the tokens group after group (stable), or None when one group serves every token; inverse_T
    undoes it.
    sizes: number of tokens of each group, known on the host so that no layer has to wait for the device.
    modality_T: int64; valid_T: bool, False for padding, which is computed like text but never counted.
    layers: filled by the blocks, once per layer (recomputation under activation checkpointing finds its entry and leaves it).
    """

    order_T: Tensor | None
    sizes: tuple[int, ...]
    modality_T: Tensor
    valid_T: Tensor | None
    shields: tuple[RowShield, ...] = ()
    record: bool = False
    layers: dict[int, LayerRouting] = field(default_factory=dict)
    inverse_T: Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        self.inverse_T = None if self.order_T is None else inverse_of(self.order_T)

    @classmethod
    def of(
        cls,
        modality_T: Tensor,
        group_of: Sequence[int],
        groups: int,
        valid_T: Tensor | None = None,
        shields: tuple[RowShield, ...] = (),
        record: bool = False,
    ) -> Routing:
        """Sort tokens by the group that serves their modality. group_of: group index of each modality, -1 if none."""
        if groups == 1:
            return cls(None, (modality_T.numel(),), modality_T, valid_T, shields, record)
        group_T = torch.tensor(group_of, device=modality_T.device)[modality_T]
        sizes = torch.bincount(group_T, minlength=groups).tolist()
        order_T = None if max(sizes) == modality_T.numel() else torch.argsort(group_T, stable=True)
        return cls(order_T, tuple(sizes), modality_T, valid_T, shields, record)

    @classmethod
    def all_text(cls, tokens: int, group_of: Sequence[int], groups: int, device: torch.device) -> Routing:
        """Routing of a plain text batch: what the backbone sees when it is called without us."""
        sizes = tuple(tokens if g == group_of[TEXT] else 0 for g in range(groups))
        return cls(None, sizes, torch.zeros(tokens, dtype=torch.long, device=device), None)

    def bounds(self) -> list[tuple[int, int]]:
        """Start and end of each group in the sorted tokens."""
        ends = [sum(self.sizes[: g + 1]) for g in range(len(self.sizes))]
        return [(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average ← d·average + (1 − d)·weights after every step, with d = min(decay, (1 + n) / (10 + n)) after n steps."""

    def __init__(self, model: nn.Module, decay: float, names: frozenset[str]):
        """names: parameters that some phase trains; they go on converging while another phase freezes them."""
        self.decay, self.updates, self.names = decay, 0, names
        self.tensors = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        moving = [(self.tensors[n], p) for n, p in model.named_parameters() if n in self.names]
        torch._foreach_lerp_([a for a, _ in moving], [p for _, p in moving], 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged weights inside, and its own bits again afterwards."""
        own: dict[str, Tensor] = {n: p.data for n, p in model.named_parameters()}
        try:
            for n, p in model.named_parameters():
                p.data = self.tensors[n]
            yield
        finally:
            for n, p in model.named_parameters():
                p.data = own[n]

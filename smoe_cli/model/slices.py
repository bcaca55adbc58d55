"""A router or a set of experts reduced to some of its experts."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def pick(module: nn.Module, experts_E: Tensor) -> nn.Module:
    """The same class with only these experts: in order, repeated where an index is.

    Reduces every parameter and persistent buffer, inner modules included, along the dimension that counts experts: the first,
    or the last where the first does not (a selection bias of shape (1, E)). `module` has `num_experts`, and stays as it is.
    """
    return _pick(module, experts_E, int(module.num_experts))  # type: ignore[arg-type]


def _pick(module: nn.Module, experts_E: Tensor, of: int) -> nn.Module:
    picked = copy.copy(module)
    for name, value in vars(module).items():
        if isinstance(value, dict | set):
            setattr(picked, name, type(value)(value))  # hooks and buffers of one group are not those of another
    picked._parameters = {
        name: None if p is None else nn.Parameter(_rows(p.detach(), experts_E, of), requires_grad=p.requires_grad)
        for name, p in module._parameters.items()
    }
    picked._buffers = {name: None if b is None else _rows(b, experts_E, of) for name, b in module._buffers.items()}
    picked._modules = {name: None if child is None else _pick(child, experts_E, of) for name, child in module._modules.items()}
    for count in ("num_experts", "out_features"):
        if getattr(module, count, None) == of:
            setattr(picked, count, len(experts_E))
    return picked


def _rows(tensor: Tensor, experts_E: Tensor, of: int) -> Tensor:
    dimension = 0 if tensor.shape[0] == of else tensor.ndim - 1
    assert tensor.shape[dimension] == of, f"no dimension of {tuple(tensor.shape)} counts {of} experts"
    return torch.index_select(tensor, dimension, experts_E.to(tensor.device))

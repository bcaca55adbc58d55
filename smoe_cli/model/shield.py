"""Shields: factors on the gradient that chosen tokens send back through a module. Forward values never change.

Symbiotic-MoE, "gradient shielding": in the warm-up, tokens of a generated image use the shared experts in the forward pass,
while the gradient they send back through them is cut; later it is scaled by a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from smoe_cli.model.routing import RowShield


class _ScaleGradient(torch.autograd.Function):
    """Identity forward; backward multiplies each row's gradient by its factor."""

    @staticmethod
    def forward(ctx: Any, y_TD: Tensor, factor_T1: Tensor) -> Tensor:
        ctx.save_for_backward(factor_T1)
        return y_TD.view_as(y_TD)

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None]:
        (factor_T1,) = ctx.saved_tensors
        return grad_TD * factor_T1.to(grad_TD.dtype), None


class _LinearScaledWeightGradient(torch.autograd.Function):
    """`F.linear` whose rows reach the weight's and bias's gradient scaled, and the input's gradient unscaled."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, factor_T1: Tensor) -> Tensor:
        ctx.save_for_backward(x_TI, weight_OI, factor_T1)
        ctx.has_bias = bias_O is not None
        return F.linear(x_TI, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x_TI, weight_OI, factor_T1 = ctx.saved_tensors
        to_input = grad_TO @ weight_OI.to(grad_TO.dtype) if ctx.needs_input_grad[0] else None
        scaled_TO = grad_TO * factor_T1.to(grad_TO.dtype)
        to_weight = (scaled_TO.T @ x_TI.to(grad_TO.dtype)).to(weight_OI.dtype)
        to_bias = scaled_TO.sum(0).to(weight_OI.dtype) if ctx.has_bias else None
        return None if to_input is None else to_input.to(x_TI.dtype), to_weight, to_bias, None


class _ScaleWeightGradients(TorchFunctionMode):
    """Within this context every `F.linear` on (T, …) rows scales what its rows send to its weights."""

    def __init__(self, factor_T1: Tensor):
        super().__init__()
        self.factor_T1 = factor_T1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func is F.linear:
            x, weight, *rest = args
            bias = rest[0] if rest else (kwargs or {}).get("bias")
            return _LinearScaledWeightGradient.apply(x, weight, bias, self.factor_T1)
        return func(*args, **(kwargs or {}))


class Shielding:
    """The shields of one forward pass, for one module.

    Mode `path` multiplies the gradient of the module's output rows, so its weights and its input both receive it scaled: factor
    0 equals detaching those rows. Mode `weights` leaves the input's gradient alone; the module then has to apply its weights
    through `F.linear`, which holds for every family's shared experts.
    """

    def __init__(self, shields: Sequence[RowShield]):
        on = torch.is_grad_enabled()
        self.weights = _product([s.factor_T1 for s in shields if s.mode == "weights"]) if on else None
        self.path = _product([s.factor_T1 for s in shields if s.mode == "path"]) if on else None

    def inside(self) -> AbstractContextManager[object]:
        """Context in which the module's weights are applied to the (T, …) rows."""
        return nullcontext() if self.weights is None else _ScaleWeightGradients(self.weights)

    def output(self, y_TD: Tensor) -> Tensor:
        """The module's output, same values."""
        return y_TD if self.path is None else _ScaleGradient.apply(y_TD, self.path)


def _product(factors: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(list(factors)).prod(0) if factors else None

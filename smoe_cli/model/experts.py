"""Dispatch of tokens to the experts of their group.

The fast path sorts all (token, expert) pairs of a layer once, over all groups together, and runs one grouped GEMM per
group and projection on its slice of the sorted pairs. No loop visits a modality or an expert. Other kernels
(`eager`, `batched_mm`, …), and families with several pools, go through the family's own experts module, one call per group.

Suffixes: T tokens, K experts per token, P = T·K pairs, E experts of a group, D hidden width, F expert width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_cli.model.routing import Routing, inverse_of


def run_experts(
    x_TD: Tensor,
    experts: Sequence[Any],
    ids: Sequence[Tensor],
    weights: Sequence[Tensor],
    routing: Routing,
    together: bool = True,
) -> Tensor:
    """Sum of the chosen experts' outputs, weighted.

    x_TD: tokens in their own order. ids, weights: per group (T_g, K), for the group's tokens in `routing` order; ids count
    from 0 within the group. together: False never sorts the groups as one (families that keep several pools apart themselves:
    the order of a sort's equals depends on its length, and with it the last bits of gradients). Returns (T, D) in the tokens'
    own order, in x's dtype.
    """
    if together and all(_sortable(module) for module in experts):
        return _one_sort(x_TD, experts, ids, weights, routing)
    sorted_TD = x_TD if routing.order_T is None else gather(x_TD, routing.order_T)
    parts = [
        module(rows_of(sorted_TD, start, end), i, w) if end > start else _no_rows(module, sorted_TD, w)
        for module, i, w, (start, end) in zip(experts, ids, weights, routing.bounds(), strict=True)
    ]
    return _restore(parts, routing)


def gather(x_TD: Tensor, index: Tensor) -> Tensor:
    """x[index], by the operation whose backward pass is best: on the CPU that of `index_select` is several times faster than
    that of indexing, on CUDA only that of indexing gives the same bits every time.
    """
    return x_TD.index_select(0, index) if x_TD.device.type == "cpu" else x_TD[index]


def rows_of(x_TD: Tensor, start: int, end: int) -> Tensor:
    """x[start:end], and x itself when that is all of it: a slice would sum gradients in another order than the original's."""
    return x_TD if end - start == x_TD.shape[0] else x_TD[start:end]


def _no_rows(module: Any, x_TD: Tensor, weights_TK: Tensor) -> Tensor:
    """Zero rows that still depend on experts and router: on every rank and step their gradient is zero, never missing."""
    zero = torch.stack([p.sum() for p in module.parameters()]).sum() * 0.0 + weights_TK.sum()
    return x_TD[:0] + zero.to(x_TD.dtype)


def _sortable(module: Any) -> bool:
    """Whether the one-sort path computes what the family's own module would. Otherwise the module itself is called."""
    standard = module.has_gate and not (module.has_bias or module.is_transposed)
    later = ("has_post_expert_norm", "_is_expert_parallel")  # came with later versions of transformers 5
    special = any(getattr(module, name, False) for name in later)
    weight = module.gate_up_proj
    supported = weight.device.type != "cuda" or torch.cuda.get_device_capability(weight.device) >= (8, 0)
    return bool(module.config._experts_implementation == "grouped_mm" and standard and not special and supported)


def _restore(parts: Sequence[Tensor], routing: Routing) -> Tensor:
    """Concatenate the groups' tokens and bring them back into their own order.

    Without an order one group has all tokens; the others add zero rows that keep their weights in the graph.
    """
    out_TD = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    return out_TD if routing.inverse_T is None else gather(out_TD, routing.inverse_T)


def _one_sort(
    x_TD: Tensor, experts: Sequence[Any], ids: Sequence[Tensor], weights: Sequence[Tensor], routing: Routing
) -> Tensor:
    top_k = ids[0].shape[-1]
    counts = [module.num_experts for module in experts]
    first = [sum(counts[:g]) for g in range(len(counts))]
    ids_P = torch.cat([i + offset if offset else i for i, offset in zip(ids, first, strict=True)]).reshape(-1)
    sorted_ids_P, pair_P = torch.sort(ids_P)
    weights_P = torch.cat(list(weights)).reshape(-1)[pair_P]
    token_P = pair_P // top_k
    if routing.order_T is not None:
        token_P = routing.order_T[token_P]
    # histc rather than bincount: no wait for the device (it takes floats on CPU and integers on CUDA)
    histogram = sorted_ids_P.float() if x_TD.device.type in ("cpu", "mps") else sorted_ids_P.int()
    total = sum(counts)
    ends_E = torch.histc(histogram, bins=total, min=0, max=total - 1).cumsum(0, dtype=torch.int32)

    inverse_P = inverse_of(pair_P)
    dtype = torch.get_autocast_dtype(x_TD.device.type) if torch.is_autocast_enabled(x_TD.device.type) else x_TD.dtype
    parts = []
    for module, base, w, (start, end) in zip(experts, first, weights, routing.bounds(), strict=True):
        if start == end:
            parts.append(_no_rows(module, x_TD, w))
            continue
        lo, hi = start * top_k, end * top_k
        ends = ends_E[base : base + module.num_experts] - lo if lo else ends_E[base : base + module.num_experts]
        rows_PD = gather(x_TD, token_P[lo:hi]).to(dtype)
        inner_PF = module._apply_gate(F.grouped_mm(rows_PD, module.gate_up_proj.to(dtype).transpose(-2, -1), offs=ends))
        out_PD = F.grouped_mm(inner_PF, module.down_proj.to(dtype).transpose(-2, -1), offs=ends)
        out_PD = out_PD * weights_P[lo:hi].unsqueeze(-1)
        back_P = inverse_P[lo:hi] - lo if lo else inverse_P[lo:hi]
        # back to tokens: a gather and a sum over K, deterministic where index_add is not
        parts.append(gather(out_PD, back_P).view(end - start, top_k, x_TD.shape[-1]).sum(dim=1).to(x_TD.dtype))
    return _restore(parts, routing)

"""A dense decoder made sparse: every feed-forward becomes a block of routed and shared copies of it.

Rosetta (arXiv 2607.00293), magnitude-preserving upcycling: with s shared copies and the output matrix of every copy divided by
s + 1, shared + Σ gᵢ · routed equals the dense feed-forward as long as the weights gᵢ sum to 1. This module makes the parts,
without values; `weights` fills them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel, Qwen2MoeConfig
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeExperts, Qwen2MoeTopKRouter

from smoe_cli.errors import UserError
from smoe_cli.families import Anatomy, anatomy_of
from smoe_cli.recipe.backbones import Upcycle


class _SparseBlock(nn.Module):
    """What surgery finds in an upcycled layer: names as in `upcycled_anatomy`."""

    def __init__(self, dense: Any, config: Qwen2MoeConfig, shared: int):
        super().__init__()
        self.gate = Qwen2MoeTopKRouter(config)
        self.experts = Qwen2MoeExperts(config)
        if shared:
            wide = copy.deepcopy(dense.config)
            wide.intermediate_size = shared * config.moe_intermediate_size
            self.shared_expert = type(dense)(wide)


def upcycled_anatomy(family: str, spec: Upcycle) -> Anatomy:
    """The dense family's entry, with the parts that its layers have after `make_sparse`."""
    return replace(anatomy_of(family), shared="shared_expert" if spec.shared else None, renormalise=True)


def make_sparse(model: PreTrainedModel, spec: Upcycle, kernel: str) -> None:
    """Replace the feed-forward of every decoder layer, in place. kernel: experts implementation. Call it on the meta device.

    Raises UserError when the feed-forward has biases, which experts cannot hold.
    """
    anatomy = anatomy_of(model.config.model_type)
    text = model.config
    config = Qwen2MoeConfig(
        hidden_size=text.hidden_size,
        moe_intermediate_size=text.intermediate_size,
        num_experts=spec.experts,
        num_experts_per_tok=spec.top_k,
        norm_topk_prob=True,
        hidden_act=text.hidden_act,
    )
    config._experts_implementation = kernel
    for layer in model.get_submodule(anatomy.decoder).layers:  # type: ignore[union-attr]
        dense = getattr(layer, anatomy.block)
        if any(name.endswith("bias") for name, _ in dense.named_parameters()):
            raise UserError(
                f"the feed-forward layers of this `{model.config.model_type}` have biases, which experts cannot hold",
                "upcycle a checkpoint without them (`mlp_bias: false`)",
            )
        setattr(layer, anatomy.block, _SparseBlock(dense, config, spec.shared))

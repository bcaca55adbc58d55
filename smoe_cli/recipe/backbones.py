"""The words for where a decoder comes from: fresh weights, a checkpoint, or a dense checkpoint made sparse."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from smoe_cli.recipe.nodes import Node, Positive


class Scratch(Node):
    """A backbone with fresh weights. Keys are those of the family's `config.json` in transformers."""

    family: Literal["qwen2_moe"]
    """Model family in transformers (`model_type`)."""
    vocab_size: Positive | None = None
    """Rows of the embedding; default: the size of the built-in tokenizer. Required with a tokenizer from a folder or hub id."""
    hidden_size: Positive
    """Width of the residual stream."""
    num_hidden_layers: Positive
    """Decoder layers; every one has an MoE block."""
    num_attention_heads: Positive
    """Query heads."""
    num_key_value_heads: Positive
    """Key and value heads (grouped-query attention when fewer than the query heads)."""
    num_experts: Positive
    """Routed experts per layer, over all groups."""
    num_experts_per_tok: Positive
    """Top-k: experts a token is sent to, within its group."""
    moe_intermediate_size: Positive
    """Inner width of one routed expert."""
    norm_topk_prob: bool = True
    """Whether the k routing weights of a token are rescaled to sum to 1."""
    max_position_embeddings: Positive = 4096
    """Longest position the rotary embedding is used for."""
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    """Base of the rotary embedding."""
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    """Epsilon of RMSNorm."""
    tie_word_embeddings: bool = False
    """Share the output head with the embedding."""
    initializer_range: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the initial weights."""


class Pretrained(Node):
    """A mixture-of-experts checkpoint in Hugging Face layout. Its weights, router and config are carried over unchanged."""

    path: str
    """Folder with config.json and safetensors files, or hub id."""
    revision: str | None = None
    """Hub ids: commit, tag or branch. Pin a commit, and the numbers can be reproduced."""


class Upcycle(Node):
    """A dense checkpoint made sparse: every feed-forward becomes routed and shared copies whose weighted sum equals it, so that
    the model starts as the dense one (Rosetta, arXiv 2607.00293, magnitude-preserving upcycling)."""

    from_: str
    """Folder of a dense checkpoint in Hugging Face layout, or hub id."""
    revision: str | None = None
    """Hub ids: commit, tag or branch."""
    experts: Positive
    """Routed experts per layer, before groups are mounted from others. Each is a copy of the dense feed-forward."""
    shared: Annotated[int, Field(ge=0)] = 1
    """Copies that every token passes. Each copy's output matrix is divided by shared + 1."""
    top_k: Positive = 2
    """Experts a token is sent to, within its group; their weights are rescaled to sum to 1."""
    router_std: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.02
    """Standard deviation of the routers' initial weights (0: all experts tie, and the lowest numbers win)."""


class Location(NamedTuple):
    """A folder, or a hub id and which commit, tag or branch of it."""

    path: str
    revision: str | None


class Backbone(Node):
    """Where the decoder comes from: exactly one of these."""

    scratch: Scratch | None = None
    """Fresh weights of a transformers MoE family with shared experts."""
    pretrained: Pretrained | None = None
    """A mixture-of-experts checkpoint."""
    upcycle: Upcycle | None = None
    """A dense checkpoint made sparse."""

    @property
    def checkpoint(self) -> Location | None:
        """Where the checkpoint lies that the weights come from; None from scratch."""
        if self.upcycle is not None:
            return Location(self.upcycle.from_, self.upcycle.revision)
        return None if self.pretrained is None else Location(self.pretrained.path, self.pretrained.revision)

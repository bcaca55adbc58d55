"""A backbone with fresh weights, worked out from the recipe: its transformers config, and every tensor's name and shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smoe_cli.families import Backbone
from smoe_cli.recipe.backbones import Scratch
from smoe_cli.recipe.models import Recipe, Shared
from smoe_cli.recipe.sizes import BYTES_VOCABULARY

Named = tuple[str, tuple[int, ...]]


def scratch_backbone(recipe: Recipe) -> Backbone:
    """The plain model that `AutoConfig.for_model(**config)` describes; `model.backbone.scratch` is given."""
    scratch, shared = recipe.model.backbone.scratch, recipe.model.shared
    assert scratch is not None
    assert isinstance(shared, Shared)
    assert shared.intermediate_size is not None
    inner = (shared.count or 1) * shared.intermediate_size
    vocab_size = scratch.vocab_size or BYTES_VOCABULARY
    return Backbone(scratch.family, _config(scratch, vocab_size, inner), dict(_tensors(scratch, vocab_size, inner)))


def _config(scratch: Scratch, vocab_size: int, inner: int) -> dict[str, Any]:
    return {
        "model_type": scratch.family,
        "vocab_size": vocab_size,
        "intermediate_size": scratch.moe_intermediate_size * scratch.num_experts_per_tok,
        "shared_expert_intermediate_size": inner,
        "rope_parameters": {"rope_type": "default", "rope_theta": scratch.rope_theta},
        "use_cache": False,
        **scratch.model_dump(exclude={"family", "vocab_size", "rope_theta"}),
    }


def _tensors(scratch: Scratch, vocab_size: int, inner: int) -> Iterator[Named]:
    d = scratch.hidden_size
    yield "model.embed_tokens.weight", (vocab_size, d)
    for i in range(scratch.num_hidden_layers):
        prefix = f"model.layers.{i}"
        yield f"{prefix}.input_layernorm.weight", (d,)
        yield f"{prefix}.post_attention_layernorm.weight", (d,)
        yield from _attention(scratch, f"{prefix}.self_attn")
        yield from _moe(scratch, inner, f"{prefix}.mlp")
    yield "model.norm.weight", (d,)
    if not scratch.tie_word_embeddings:
        yield "lm_head.weight", (vocab_size, d)


def _attention(scratch: Scratch, prefix: str) -> Iterator[Named]:
    d = scratch.hidden_size
    head_dim = d // scratch.num_attention_heads
    q, kv = scratch.num_attention_heads * head_dim, scratch.num_key_value_heads * head_dim
    for projection, width in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
        yield f"{prefix}.{projection}.weight", (width, d)
        yield f"{prefix}.{projection}.bias", (width,)
    yield f"{prefix}.o_proj.weight", (d, q)


def _moe(scratch: Scratch, inner: int, prefix: str) -> Iterator[Named]:
    e, d, f = scratch.num_experts, scratch.hidden_size, scratch.moe_intermediate_size
    yield f"{prefix}.gate.weight", (e, d)
    yield f"{prefix}.experts.gate_up_proj", (e, 2 * f, d)
    yield f"{prefix}.experts.down_proj", (e, d, f)
    yield f"{prefix}.shared_expert.gate_proj.weight", (inner, d)
    yield f"{prefix}.shared_expert.up_proj.weight", (inner, d)
    yield f"{prefix}.shared_expert.down_proj.weight", (d, inner)
    yield f"{prefix}.shared_expert_gate.weight", (1, d)

"""Name, shape and role of every parameter of the built model, worked out from the recipe alone."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.plan.types import GroupPlan, Tensor
from smoe_cli.plan.vision import vision_tensors
from smoe_cli.recipe.models import Latents, Model, Scratch, Vision
from smoe_cli.recipe.sizes import patches

TIME_FEATURES = 256
"""Width of the sinusoidal features of a timestep, before the latent interface's MLP."""

LATENT_CHANNELS = 3
"""Channels of the `pixels` codec's latents."""


def model_tensors(model: Model, groups: tuple[GroupPlan, ...], vocab_size: int) -> tuple[Tensor, ...]:
    """Every parameter of the built model, each once (a tied output head is the embedding)."""
    return tuple(
        Tensor(name, shape, role)
        for part in (_backbone(model, groups, vocab_size), _vision(model), _latents(model))
        for name, shape, role in part
    )


def vit_tokens(vision: Vision | None) -> int:
    """`vit` tokens per image: one a patch (the encoder's class token is dropped); 0 without a vision encoder."""
    return patches(vision.image_size, vision.patch_size) if vision else 0


def vae_tokens(latents: Latents | None) -> int:
    """`vae` tokens per image: one a patch; 0 without a latent interface."""
    return patches(latents.image_size, latents.patch_size) if latents else 0


def latent_dim(latents: Latents | None) -> int:
    """Values of one `vae` token; 0 without a latent interface."""
    return LATENT_CHANNELS * latents.patch_size[0] * latents.patch_size[1] if latents else 0


Row = tuple[str, tuple[int, ...], str]


def _backbone(model: Model, groups: tuple[GroupPlan, ...], vocab_size: int) -> Iterator[Row]:
    scratch = model.backbone.scratch
    d = scratch.hidden_size
    yield "backbone.model.embed_tokens.weight", (vocab_size, d), "embeddings"
    for i in range(scratch.num_hidden_layers):
        prefix = f"backbone.model.layers.{i}"
        yield f"{prefix}.input_layernorm.weight", (d,), "norms"
        yield f"{prefix}.post_attention_layernorm.weight", (d,), "norms"
        yield from _attention(scratch, f"{prefix}.self_attn")
        yield from _moe(model, groups, f"{prefix}.mlp")
    yield "backbone.model.norm.weight", (d,), "norms"
    if not scratch.tie_word_embeddings:
        yield "backbone.lm_head.weight", (vocab_size, d), "embeddings"


def _attention(scratch: Scratch, prefix: str) -> Iterator[Row]:
    d = scratch.hidden_size
    head_dim = d // scratch.num_attention_heads
    q, kv = scratch.num_attention_heads * head_dim, scratch.num_key_value_heads * head_dim
    for projection, width in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
        yield f"{prefix}.{projection}.weight", (width, d), "attention"
        yield f"{prefix}.{projection}.bias", (width,), "attention"
    yield f"{prefix}.o_proj.weight", (d, q), "attention"


def _moe(model: Model, groups: tuple[GroupPlan, ...], prefix: str) -> Iterator[Row]:
    d, f = model.backbone.scratch.hidden_size, model.backbone.scratch.moe_intermediate_size
    for group in groups:
        yield f"{prefix}.router.{group.name}.weight", (group.size, d), f"router.{group.name}"
        yield f"{prefix}.experts.{group.name}.gate_up_proj", (group.size, 2 * f, d), f"experts.{group.name}"
        yield f"{prefix}.experts.{group.name}.down_proj", (group.size, d, f), f"experts.{group.name}"
    inner = model.shared.count * model.shared.intermediate_size
    yield f"{prefix}.shared_expert.gate_proj.weight", (inner, d), "shared"
    yield f"{prefix}.shared_expert.up_proj.weight", (inner, d), "shared"
    yield f"{prefix}.shared_expert.down_proj.weight", (d, inner), "shared"
    yield f"{prefix}.shared_expert_gate.weight", (1, d), "shared"


def _vision(model: Model) -> Iterator[Row]:
    if model.vision is None:
        return
    for name, shape in vision_tensors(model.vision):
        yield f"vision.{name}", shape, "vision"
    d, h = model.backbone.scratch.hidden_size, model.vision.hidden_size
    yield "projector.0.weight", (d, h), "projector"
    yield "projector.0.bias", (d,), "projector"
    if model.vision.projector == "mlp":
        yield "projector.2.weight", (d, d), "projector"
        yield "projector.2.bias", (d,), "projector"


def _latents(model: Model) -> Iterator[Row]:
    if model.latents is None:
        return
    d, values = model.backbone.scratch.hidden_size, latent_dim(model.latents)
    for name, shape in (("proj_in", (d, values)), ("time.0", (d, TIME_FEATURES)), ("time.2", (d, d))):
        yield f"latents.{name}.weight", shape, "latents"
        yield f"latents.{name}.bias", (d,), "latents"
    yield "latents.norm.weight", (d,), "latents"
    yield "latents.proj_out.weight", (values, d), "latents"
    yield "latents.proj_out.bias", (values,), "latents"

"""The transformers modules that a recipe names, built for real: the slow reference for what the plan works out."""

from __future__ import annotations

import torch
from transformers import (
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from smoe_cli.recipe.models import Recipe


def decoder(recipe: Recipe, vocab_size: int, attention: str = "eager", experts: str = "eager") -> Qwen2MoeForCausalLM:
    """The backbone before its experts are split."""
    scratch = recipe.model.backbone.scratch
    keys = scratch.model_dump(exclude={"family", "vocab_size", "rope_theta"})
    shared = recipe.model.shared.count * recipe.model.shared.intermediate_size
    config = Qwen2MoeConfig(
        vocab_size=vocab_size, shared_expert_intermediate_size=shared, attn_implementation=attention, use_cache=False, **keys
    )
    model = Qwen2MoeForCausalLM(config)
    model.set_experts_implementation(experts)
    return model


def encoder(recipe: Recipe) -> torch.nn.Module:
    """The vision encoder, without a pooling head."""
    vision = recipe.model.vision
    assert vision is not None
    keys = vision.model_dump(exclude={"family", "image_size", "patch_size", "projector"})
    if vision.family == "vit":
        config = ViTConfig(image_size=vision.image_size, patch_size=vision.patch_size, attn_implementation="eager", **keys)
        return ViTModel(config, add_pooling_layer=False)
    image, patch = vision.image_size[0], vision.patch_size[0]
    return SiglipVisionModel(
        SiglipVisionConfig(image_size=image, patch_size=patch, vision_use_head=False, attn_implementation="eager", **keys)
    )

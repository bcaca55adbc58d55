"""The vision encoder (any transformers vision model with patches) and the projector into the backbone's width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from smoe_cli.errors import UserError
from smoe_cli.recipe.models import Vision

# families whose constructor takes a switch for parts that only classification needs
_CONFIG = {"siglip_vision_model": {"vision_use_head": False}}
_BUILD = {"vit": {"add_pooling_layer": False}}


def build_vision(spec: Vision, attention: str) -> nn.Module:
    """A freshly initialised encoder. Raises UserError when the family refuses the sizes."""
    rectangular = spec.family == "vit"
    config = AutoConfig.for_model(
        spec.family,
        image_size=list(spec.image_size) if rectangular else spec.image_size[0],
        patch_size=list(spec.patch_size) if rectangular else spec.patch_size[0],
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        **_CONFIG.get(spec.family, {}),
    )
    try:
        return AutoModel.from_config(config, attn_implementation=attention, **_BUILD.get(spec.family, {}))
    except ValueError as error:
        raise UserError(f"vision encoder `{spec.family}` cannot be built: {error}") from error


def build_projector(spec: Vision, hidden_size: int) -> nn.Module:
    """Vision width → backbone width (LLaVA 1.5, §4.1 for `mlp`)."""
    if spec.projector == "linear":
        return nn.Sequential(nn.Linear(spec.hidden_size, hidden_size))
    return nn.Sequential(nn.Linear(spec.hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))


def vision_features(tower: nn.Module, projector: nn.Module, pixels_NCHW: Tensor, tokens: int) -> Tensor:
    """Images in [-1, 1] → (N · tokens, D) embeddings of `vit` tokens; a class token in front is dropped.

    Without images the encoder still runs, on one empty image whose features are thrown away: its weights then get a zero
    gradient on every rank and step instead of none, which would desynchronise ranks and optimizer states.
    """
    images = pixels_NCHW.shape[0]
    if images == 0:
        if not torch.is_grad_enabled():
            return pixels_NCHW.new_zeros(0, projector[-1].out_features)  # type: ignore[index]
        pixels_NCHW = pixels_NCHW.new_zeros(1, *pixels_NCHW.shape[1:])
    features = projector(tower(pixel_values=pixels_NCHW).last_hidden_state[:, -tokens:])
    return features[:images].flatten(0, 1)

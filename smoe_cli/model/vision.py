"""What turns an image to understand into `vit` tokens: a fresh or pretrained transformers vision model with a projector, or the
encoder of a multimodal backbone itself.

Suffixes: N images, C channels, P tokens of an image, T tokens of all images, D hidden width.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from smoe_cli.data.positions import pretrained_size
from smoe_cli.errors import UserError
from smoe_cli.families import VisionGeometry
from smoe_cli.model.pixels import Normalisation, flat_patches
from smoe_cli.model.refusal import refusal
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import FreshVision, PretrainedVision

# parts that only classification needs: a key of the config, or of the constructor, leaves them out
HEAD, POOLING = "vision_use_head", "add_pooling_layer"


@dataclass(frozen=True)
class Seen:
    """What an encoder made of some images. embeds_TD: their `vit` tokens in the backbone's width, image after image. deep: more
    of the same, added to the decoder's first layers (DeepStack, arXiv 2406.04334)."""

    embeds_TD: Tensor
    deep: tuple[Tensor, ...] = ()

    def first(self, tokens: int) -> Seen:
        """Of the first `tokens` tokens."""
        return Seen(self.embeds_TD[:tokens], tuple(layer[:tokens] for layer in self.deep))


def build_vision(spec: FreshVision | PretrainedVision, plan: Plan, attention: str) -> PreTrainedModel:
    """A vision encoder with fresh weights. Raises UserError when the family refuses the sizes."""
    if isinstance(spec, FreshVision):
        config = _fresh_config(spec)
    else:
        assert plan.source.vision is not None
        config = _pretrained_config(plan.source.vision.config, spec.path)
    setattr(config, HEAD, False)  # families that do not know the key do not look at it
    switches = _switches(MODEL_MAPPING[type(config)])
    if isinstance(spec, PretrainedVision):
        with refusal(f'vision encoder "{spec.path}"'):
            return AutoModel.from_config(config, attn_implementation=attention, dtype=torch.float32, **switches)
    try:
        return AutoModel.from_config(config, attn_implementation=attention, dtype=torch.float32, **switches)
    except ValueError as error:
        raise UserError(f"vision encoder `{config.model_type}` cannot be built: {error}") from error


def _switches(cls: Any) -> dict[str, Any]:
    """Arguments of an encoder's constructor that leave out what is not needed."""
    return {POOLING: False} if POOLING in inspect.signature(cls.__init__).parameters else {}


def _fresh_config(spec: FreshVision) -> PreTrainedConfig:
    rectangular = spec.family == "vit"
    return AutoConfig.for_model(
        spec.family,
        image_size=list(spec.image_size) if rectangular else spec.image_size[0],
        patch_size=list(spec.patch_size) if rectangular else spec.patch_size[0],
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
    )


def _pretrained_config(config: dict[str, object], path: str) -> PreTrainedConfig:
    family = str(config["model_type"])
    if family not in CONFIG_MAPPING or CONFIG_MAPPING[family] not in MODEL_MAPPING:
        raise UserError(f'vision encoder "{path}": this transformers has no model `{family}`', "install a later transformers")
    with refusal(f'vision encoder "{path}"'):
        return CONFIG_MAPPING[family].from_dict(dict(config))


def load_vision(encoder: PreTrainedModel, spec: PretrainedVision, plan: Plan) -> None:
    """Fill an encoder from its checkpoint, through transformers, which knows how each family's files name their tensors.

    Raises UserError when a tensor is missing or of another shape, when the checkpoint holds one that belongs to the encoder and
    has no place in it, or when the encoder does not give one feature a patch. Pooling heads, classifiers and text towers are
    left out.
    """
    cls: Any = type(encoder)
    try:
        with _quiet():
            loaded, info = cls.from_pretrained(
                spec.path,
                revision=spec.revision or "main",
                config=encoder.config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                **_switches(cls),
            )
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f'vision encoder "{spec.path}" cannot be loaded: {first}', "it should be a complete checkpoint"
        ) from error
    own = loaded.state_dict()
    modules = {name.split(".")[0] for name in own} | {"vision_model", "vision_tower", "visual"}
    problems = [f"`{name}` is missing" for name in sorted(info["missing_keys"])]
    problems += [f"`{name}` has another shape" for name, *_ in sorted(info["mismatched_keys"])]
    problems += [f"`{name}` has no place" for name in sorted(info["unexpected_keys"]) if name.split(".")[0] in modules]
    if problems:
        more = f" … and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(
            f'vision encoder "{spec.path}": ' + "; ".join(problems[:5]) + more, "its files and its config.json do not fit"
        )
    encoder.load_state_dict(own)
    _check_features(encoder, spec, plan)


@torch.no_grad()
def _check_features(encoder: PreTrainedModel, spec: PretrainedVision, plan: Plan) -> None:
    """Raise UserError for encoders that merge patches on the way, such as Swin."""
    assert plan.source.vision is not None
    shape = encoder(pixel_values=torch.zeros(1, 3, *pretrained_size(plan.source.vision.config))).last_hidden_state.shape
    if len(shape) != 3 or shape[1] < plan.vit_tokens or shape[2] != encoder.config.hidden_size:
        raise UserError(
            f'vision encoder "{spec.path}" gives features of shape {tuple(shape[1:])} where {plan.vit_tokens} patches have '
            f"{encoder.config.hidden_size} values each",
            "use an encoder that keeps its patches, such as ViT, SigLIP, CLIP or DINOv2",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers prints a table of what it left out; what matters of it becomes an error here."""
    level = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def build_projector(kind: str, vision_width: int, hidden_size: int) -> nn.Sequential:
    """Vision width → backbone width (LLaVA 1.5, §4.1 for `mlp`)."""
    if kind == "linear":
        return nn.Sequential(nn.Linear(vision_width, hidden_size))
    return nn.Sequential(nn.Linear(vision_width, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))


def see(
    encoder: nn.Module, projector: nn.Module, pixels_NCHW: Tensor, tokens: int, normalisation: Normalisation | None
) -> Seen:
    """Images in [-1, 1] → embeddings of `vit` tokens. Class and register tokens, which come first, are dropped.

    normalisation: of a pretrained encoder; a fresh one takes the pixels as they are.
    """
    pixels = (pixels_NCHW if normalisation is None else normalisation(pixels_NCHW)).to(next(encoder.parameters()).dtype)
    return Seen(projector(encoder(pixel_values=pixels).last_hidden_state[:, -tokens:]).flatten(0, 1))


def see_with_own(backbone: nn.Module, geometry: VisionGeometry, normalisation: Normalisation, pixels_NCHW: Tensor) -> Seen:
    """Images in [-1, 1] → what the backbone's own `get_image_features` makes of them."""
    pixel_values, grid_thw = flat_patches(normalisation(pixels_NCHW), geometry)
    features = backbone.model.get_image_features(pixel_values, grid_thw, return_dict=True)  # type: ignore[union-attr,operator]
    deep = getattr(features, "deepstack_features", None) or ()
    # a tensor for each image, or, in earlier transformers 5, one for all of them
    layers = (layer if isinstance(layer, Tensor) else torch.cat(list(layer)) for layer in deep)
    return Seen(torch.cat(list(features.pooler_output)), tuple(layers))

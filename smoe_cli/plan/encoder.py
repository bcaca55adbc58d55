"""A pretrained vision encoder, as its checkpoint's headers tell it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.families import open_checkpoint

HEADS = ("pooler.", "head.", "classifier.")
"""Parts of vision models that only classification and retrieval need; they are left out."""

Tensors = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class VisionFacts:
    """config: of the encoder alone, with the keys `model_type`, `image_size`, `patch_size`, `hidden_size` and
    `num_hidden_layers` present. tensors: {name as in the files, without the path to the encoder: shape}, without HEADS."""

    config: dict[str, Any]
    tensors: Tensors = field(repr=False)
    sha256: str


def read_encoder(path: str, revision: str | None) -> VisionFacts:
    """Of a vision model, or of a model that contains one (`vision_config`). Raises UserError when there is none in it."""
    checkpoint = open_checkpoint(path, revision)
    shapes = {name: entry.shape for name, entry in checkpoint.entries.items() if entry.dtype.startswith(("F", "B"))}
    patches = [name for name, shape in shapes.items() if len(shape) == 4 and "embeddings.patch_embedding" in name]
    if len(patches) != 1:
        raise UserError(
            f"{checkpoint.folder}: no vision encoder that is known",
            "transformers models such as ViT, SigLIP, CLIP or DINOv2, or a model that contains one of them",
        )
    prefix = patches[0][: patches[0].index("embeddings.")]
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    tensors = {name: shape for name, shape in own.items() if not name.startswith(HEADS)}
    config = dict(checkpoint.config.get("vision_config", checkpoint.config))
    config.setdefault("model_type", f"{checkpoint.config.get('model_type')}_vision_model")
    for key, value in _sizes(tensors).items():
        config.setdefault(key, value)  # configs leave out what is the family's default
    return VisionFacts(config, tensors, checkpoint.sha256)


def extra_tokens(tensors: Tensors) -> int:
    """Class and register tokens, which an encoder carries besides the patches."""
    extra = 0
    for name, shape in tensors.items():
        if name.startswith("embeddings.") and name.endswith(("cls_token", "class_embedding", "register_tokens")):
            extra += shape[1] if len(shape) == 3 else 1
    return extra


def _sizes(tensors: Tensors) -> dict[str, Any]:
    patch = next(shape for shape in tensors.values() if len(shape) == 4)
    positions = next((shape for name, shape in tensors.items() if "position_embedding" in name), None)
    sizes: dict[str, Any] = {"hidden_size": patch[0], "patch_size": patch[2], "num_hidden_layers": layer_count(tensors)}
    if positions is not None:
        register = sum(shape[1] for name, shape in tensors.items() if name.endswith("register_tokens"))
        squares = positions[-2] - extra_tokens(tensors) + register  # register tokens have no position
        sizes["image_size"] = math.isqrt(squares) * patch[2]
    return sizes


def layer_count(tensors: Tensors) -> int:
    """Encoder layers."""
    return len({prefix for name in tensors if (prefix := layer_of(name)) is not None})


def layer_of(name: str) -> str | None:
    """`encoder.layers.3` of `encoder.layers.3.mlp.fc1.weight`; None outside the layers."""
    parts = name.split(".")
    number = next((position for position, part in enumerate(parts) if part.isdecimal()), None)
    return None if number is None else ".".join(parts[: number + 1])

"""Vision models of transformers as feature extractors: ViT, DINOv2, CLIP, SigLIP and others, from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from smoe_cli.errors import UserError
from smoe_cli.eval.opening.plain import loading
from smoe_cli.eval.opening.processor import FILES, has_processor

PREPROCESSING = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_pad",
    "pad_size",
)
"""Settings of an image processor that a number depends on."""


UNFIT = (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError)
"""What models of another kind raise when they are asked like those that are meant here."""


class Tower(nn.Module):
    """(B, 3, H, W) float32 to (B, D): the model's own pooled output, or where it has none the mean over its last tokens."""

    def __init__(self, model: Any, processor: Any, pooled: bool):
        super().__init__()
        self.model = getattr(model, "vision_model", model)  # of CLIP and SigLIP only the half that sees
        self._processor, self._pooled = processor, pooled
        self.features = "pooler_output" if pooled else "mean over the tokens of the last hidden state"
        self.preprocessing = preprocessing(processor)

    def prepare(self, images: Sequence[Image.Image]) -> Tensor:
        """The image processor's pixels, (B, 3, H, W) float32."""
        return self._processor(images=list(images), return_tensors="pt")["pixel_values"]

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.model(pixel_values=pixels)
        if self._pooled:
            return output.pooler_output.flatten(1)
        hidden = output.last_hidden_state
        return hidden.flatten(2).mean(-1) if hidden.dim() == 4 else hidden.mean(1)


def open_tower(folder: Path) -> Tower:
    """The vision model in a folder, in float32 on the CPU. Raises UserError when there is none or a tensor is missing."""
    model, missing = open_pretrained(folder)
    if others := [name for name in missing if "pooler" not in name]:
        raise UserError(f"{folder}: lacks the tensor `{others[0]}`", "copy the folder again")
    processor = open_image_processor(folder)
    blank = processor(images=[Image.new("RGB", (32, 32))], return_tensors="pt")
    vision = getattr(model, "vision_model", model)
    try:
        with torch.inference_mode():
            output = vision(pixel_values=blank["pixel_values"])
        output.last_hidden_state  # noqa: B018 — whether it has one is the question
    except UNFIT:
        raise UserError(
            f"{folder}: a `{model.config.model_type}` model, which does not turn pictures alone into features"
        ) from None
    # a pooling layer that the checkpoint lacks holds random numbers: not used, and the same in every hash of the weights
    for name in missing:
        model.get_parameter(name).data.zero_()
    return Tower(model, processor, pooled=not missing and getattr(output, "pooler_output", None) is not None)


def preprocessing(processor: Any) -> dict[str, Any]:
    """What an image processor does, for a protocol."""
    settings = processor.to_dict()
    return {name: settings[name] for name in PREPROCESSING if settings.get(name) is not None}


def open_pretrained(folder: Path) -> tuple[Any, list[str]]:
    """The model of a folder, float32, in evaluation mode on the CPU, and the names of tensors that its files lack.

    The random state is left as it was. Raises UserError when transformers cannot load it.
    """
    from transformers import AutoModel

    with loading(folder), torch.random.fork_rng(devices=[]):
        model, info = AutoModel.from_pretrained(
            folder,
            dtype="float32",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    if wrong := sorted(name for name, *_ in info["mismatched_keys"]):
        raise UserError(f"{folder}: its tensor `{wrong[0]}` is of another shape than its config says", "copy the folder again")
    return model.eval(), sorted(info["missing_keys"])


def open_image_processor(folder: Path) -> Any:
    """A folder's image processor, of the kind that needs Pillow alone: the same pixels whether torchvision is there or not.

    Raises UserError when there is none.
    """
    # not from `transformers` itself, where some versions only have a stand-in that asks for torchvision
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    if not has_processor(folder):
        raise UserError(f"{folder}: has no image processor: neither {FILES[0]} nor {FILES[1]}", "copy the folder again")
    with loading(folder):
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False, local_files_only=True)

"""Images for a multimodal family's own vision encoder, prepared by the family's own image processor.

The processors are named by their classes that need Pillow alone: `AutoImageProcessor` of some versions of transformers wants
torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import transformers
from PIL import Image
from torch import Tensor

from smoe_cli.data.images import fit
from smoe_cli.data.sample import BadRow
from smoe_cli.errors import UserError
from smoe_cli.families import Anatomy, Checkpoint
from smoe_cli.families.checkpoint import read_json

SETTINGS = ("preprocessor_config.json", "processor_config.json")
"""Files that may hold the image processor's settings; in the second, which transformers 5 writes, under `image_processor`."""


@dataclass(frozen=True)
class Patches:
    """An image as the encoder takes it. values: (patches, channels × frames × height × width). grid: (1, 3) int64, frames,
    rows and columns of patches. tokens: how many it becomes in the decoder."""

    values: Tensor
    grid: Tensor
    tokens: int


class ImageReader:
    """Prepares images. size: [height, width] that each is fitted into; None lets the family choose by the image's own size."""

    def __init__(self, checkpoint: Checkpoint, anatomy: Anatomy, size: tuple[int, int] | None):
        config, vision = checkpoint.config, checkpoint.config["vision_config"]
        self.size = size
        self._merge = int(vision[anatomy.merge_size])
        self._processor, self._configured = _processor(checkpoint, anatomy)
        self._folder = checkpoint.folder
        step = int(vision[anatomy.patch_size]) * self._merge
        if size is not None and any(side % step for side in size):
            raise UserError(
                f"--image-size {size[0]} {size[1]}: sides of images are multiples of {step} pixels for this model",
                f"try {max(step, round(size[0] / step) * step)} {max(step, round(size[1] / step) * step)}",
            )
        assert anatomy.image_tokens is not None
        start, end = anatomy.image_tokens
        try:
            self.tokens = (int(config[start]), int(config[anatomy.image_token]), int(config[end]))
            """Ids: start of image, one feature, end of image."""
        except KeyError as error:
            raise UserError(f"{checkpoint.folder / 'config.json'}: lacks {error}, a token that stands for an image") from None

    def check_size(self) -> None:
        """Raise UserError unless the size of images is known."""
        if self.size is None and not self._configured:
            raise UserError(
                f"{self._folder}: has no {SETTINGS[0]}, which says how large images are to be",
                "pass --image-size HEIGHT WIDTH: what the model was trained with",
            )

    def read(self, image: Image.Image) -> Patches:
        """Resize, normalise and cut into patches. Raises BadRow on proportions that the family does not take."""
        try:
            found: Any = (
                self._processor(images=[image], return_tensors="pt")
                if self.size is None
                else self._processor(images=[fit(image, self.size)], return_tensors="pt", do_resize=False)
            )
        except ValueError as error:
            raise BadRow("image cannot be prepared", str(error)) from error
        grid = found["image_grid_thw"]
        return Patches(found["pixel_values"], grid, int(grid.prod()) // self._merge**2)


def _processor(checkpoint: Checkpoint, anatomy: Anatomy) -> tuple[Any, bool]:
    """The family's image processor with the checkpoint's own settings, or with the family's defaults and the encoder's patches;
    and whether the settings are the checkpoint's own."""
    assert anatomy.image_processor is not None
    cls = getattr(transformers, anatomy.image_processor)
    for name in SETTINGS:
        path = checkpoint.folder / name
        if path.is_file() and (name == SETTINGS[0] or "image_processor" in read_json(path, "copy the file again")):
            return cls.from_pretrained(str(checkpoint.folder)), True
    vision = checkpoint.config["vision_config"]
    frames = {"temporal_patch_size": vision[anatomy.temporal_patch_size]} if anatomy.temporal_patch_size else {}
    return cls(patch_size=vision[anatomy.patch_size], merge_size=vision[anatomy.merge_size], **frames), False

"""From our pixels, (N, 3, H, W) in [-1, 1], to what a pretrained vision encoder expects, as its image processor does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smoe_cli.errors import UserError
from smoe_cli.families import VisionGeometry
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import FreshVision, OwnVision, Vision


@dataclass(frozen=True)
class Normalisation:
    """value · factor, then (… − mean) / std by channel. Values are those of an 8-bit image, 0 to 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    factor: float = 1 / 255

    @classmethod
    def of(cls, preprocessor: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]) -> Normalisation:
        """From a preprocessor_config.json ({} without one), and what its image processor does by default."""
        mean, std = preprocessor.get("image_mean", mean), preprocessor.get("image_std", std)
        factor = preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) else 1.0
        if not preprocessor.get("do_normalize", True):
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return cls(tuple(mean), tuple(std), factor)

    @classmethod
    def of_plan(cls, vision: Vision, plan: Plan) -> Normalisation | None:
        """Of the encoder that a model sees with; None for a fresh one, which takes the pixels as they are.

        Raises UserError when a pretrained encoder comes without its preprocessor_config.json: there is no default to trust.
        """
        preprocessor, anatomy = plan.source.preprocessor, plan.source.backbone.anatomy
        match vision:
            case FreshVision():
                return None
            case OwnVision():
                return cls.of(preprocessor or {}, anatomy.pixel_mean, anatomy.pixel_std)
        if preprocessor is None or not {"image_mean", "image_std"} <= preprocessor.keys():
            raise UserError(
                f'vision encoder "{vision.path}" has no preprocessor_config.json with image_mean and image_std',
                "copy the file that it was published with: without it, nobody knows which pixels it was trained on",
            )
        return cls.of(preprocessor, preprocessor["image_mean"], preprocessor["image_std"])

    def __call__(self, pixels_NCHW: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] → the same shape, the bits that transformers' image processors (PIL) make of the image.

        Our pixels come from 8-bit images (`data.images`), whose values are taken back first: rescaling in float64, as there.
        """
        values = ((pixels_NCHW.double() + 1) * 127.5).round() * self.factor
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float32, device=pixels_NCHW.device)[:, :, None, None]
        return (values.float() - mean) / std


def flat_patches(pixels_NCHW: Tensor, geometry: VisionGeometry) -> tuple[Tensor, Tensor]:
    """Normalised images → (pixel_values, grid_thw), the form that the families' own encoders take (Qwen2-VL and successors).

    pixel_values: (N · patches, C · frames · patch²); the patches that are merged into one token follow each other. grid_thw:
    (N, 3) int64, frames, rows and columns of patches of each image.
    """
    n, c, h, w = pixels_NCHW.shape
    patch, merge, frames = geometry.patch_size, geometry.merge_size, geometry.temporal_patch_size
    rows, columns = h // patch, w // patch
    split = pixels_NCHW.reshape(n, c, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = split.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
    grid = torch.tensor([[1, rows, columns]] * n, dtype=torch.long, device=pixels_NCHW.device).view(n, 3)
    return patches.reshape(n * rows * columns, c * frames * patch * patch), grid

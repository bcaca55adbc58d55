"""Images from whatever a data row holds to float32 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from smoe_cli.data.sample import BadRow

PADDING = (128, 128, 128)
"""Colour beside an image whose proportions differ from the model's: the middle of the range."""


def read_image(value: Any, folder: Path | None) -> Image.Image:
    """An RGB image from a PIL image, encoded bytes, a `{bytes, path}` mapping (the `datasets` Image feature) or a path relative
    to `folder`. Transparent parts become white. Raises BadRow when it cannot be read.
    """
    if isinstance(value, Mapping) and value.keys() <= {"bytes", "path"}:
        value = value.get("bytes") or value.get("path")
    if value is None or value in ("", b""):
        raise BadRow("image is missing")
    try:
        if isinstance(value, Image.Image):
            return _to_rgb(value)
        if isinstance(value, bytes | bytearray | memoryview):
            with Image.open(BytesIO(value)) as image:
                return _to_rgb(image)
        if isinstance(value, str | Path):
            path = Path(value).expanduser()
            if not path.is_absolute():
                if folder is None:
                    raise BadRow("image is a path", f'image is the path "{value}", and this dataset has no folder')
                path = folder / path
            with Image.open(path) as image:
                return _to_rgb(image)
    except FileNotFoundError as error:
        raise BadRow("image file not found", f"no image file {error.filename}") from error
    except BadRow:
        raise
    except UnidentifiedImageError as error:  # its own words are about a Python object
        raise BadRow("image cannot be read", "image cannot be read (no image of a known format, or a damaged one)") from error
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error, … depending on how a file is damaged.
        raise BadRow("image cannot be read", f"image cannot be read ({error})") from error
    raise BadRow("image has the wrong type", f"image is {type(value).__name__}, not an image, bytes or a path")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.format == "EPS":  # a program, which Pillow would have Ghostscript run
        raise BadRow("image cannot be read", "image cannot be read (it is an EPS file; store it as PNG)")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        return paper.convert("RGB")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB image at `size` = (height, width): scaled to fit whole, with its proportions, the rest filled with grey."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    scaled = image if image.size == inner else image.resize(inner, Image.Resampling.BICUBIC)
    if inner == (width, height):
        return scaled
    canvas = Image.new("RGB", (width, height), PADDING)
    canvas.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def pixels(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(3, height, width) float32 in [-1, 1]: `fit`, then 0..255 → -1..1."""
    array = np.asarray(fit(image, size), dtype=np.uint8)
    return np.ascontiguousarray(array.transpose(2, 0, 1)).astype(np.float32) / np.float32(127.5) - np.float32(1)

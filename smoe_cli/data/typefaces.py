"""The DejaVu typefaces that matplotlib ships, measured without importing matplotlib, and text drawn as a coverage mask."""

from __future__ import annotations

import importlib.util
import string
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageFont

from smoe_cli.errors import Failure

FACES: tuple[tuple[str, str], ...] = (
    ("sans", "DejaVuSans.ttf"),
    ("serif", "DejaVuSerif.ttf"),
    ("mono", "DejaVuSansMono.ttf"),
    ("bold sans", "DejaVuSans-Bold.ttf"),
    ("italic serif", "DejaVuSerif-Italic.ttf"),
    ("bold mono", "DejaVuSansMono-Bold.ttf"),
    ("oblique sans", "DejaVuSans-Oblique.ttf"),
    ("bold serif", "DejaVuSerif-Bold.ttf"),
)
"""(name in captions, file), in the order in which a recipe's `fonts: n` takes them."""

CHARACTERS = string.digits + string.ascii_lowercase

_REFERENCE = 200
"""Size in pixels at which characters are measured."""


@lru_cache(maxsize=1)
def _folder() -> Path:
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
    if folder is None or not (folder / FACES[0][1]).is_file():
        raise Failure("the typefaces that come with matplotlib were not found", help="reinstall matplotlib")
    return folder


@lru_cache(maxsize=1024)
def font(face: int, size: int) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels. Basic layout: the same glyph positions whether or not Pillow was built with raqm."""
    return ImageFont.truetype(str(_folder() / FACES[face][1]), size, layout_engine=ImageFont.Layout.BASIC)


@dataclass(frozen=True)
class Measures:
    """Measures of the characters of a face, as shares of the size."""

    advance: dict[str, float]
    left: dict[str, float]
    right: dict[str, float]
    """Horizontal edges of the ink, from the character's origin."""
    top: dict[str, float]
    bottom: dict[str, float]
    """Vertical edges of the ink, from the ascender line downwards."""

    def extent(self, text: str) -> tuple[float, float]:
        """(height, width) of the ink of a text, as shares of the size."""
        width = sum(self.advance[c] for c in text[:-1]) + self.right[text[-1]] - self.left[text[0]]
        return max(self.bottom[c] for c in text) - min(self.top[c] for c in text), width


@lru_cache(maxsize=len(FACES))
def measures(face: int) -> Measures:
    """Measures of a face."""
    reference = font(face, _REFERENCE)
    boxes = {c: _ink_box(reference, c) for c in CHARACTERS}
    left, top, right, bottom = ({c: box[i] / _REFERENCE for c, box in boxes.items()} for i in range(4))
    advance = {c: reference.getlength(c) / _REFERENCE for c in CHARACTERS}
    return Measures(advance=advance, left=left, right=right, top=top, bottom=bottom)


def _ink_box(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the ink, from the origin on the ascender line; Pillow's getbbox includes the advance."""
    mask, (x, y) = font.getmask2(text, "L")
    left, top, right, bottom = mask.getbbox()
    return left + x, top + y, right + x, bottom + y


def ink(text: str, face: int, size: int) -> np.ndarray:
    """Coverage of a text, (height, width) uint8, cropped to its ink."""
    mask, _ = font(face, size).getmask2(text, "L")
    width, height = mask.size
    coverage = np.frombuffer(bytes(mask), dtype=np.uint8).reshape(height, width)
    left, top, right, bottom = mask.getbbox()
    return coverage[top:bottom, left:right]

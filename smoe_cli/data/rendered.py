"""Words and digit strings drawn with Pillow: pictures with an exact caption, and questions with an exact answer, at no cost.

A picture is a function of (seed, split, index) and of the recipe's settings alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from smoe_cli.data.colours import JITTER, PAIRS, PALETTE, RGB
from smoe_cli.data.keys import generator
from smoe_cli.data.strings import Strings
from smoe_cli.data.typefaces import FACES, ink, measures
from smoe_cli.errors import UserError
from smoe_cli.recipe.models import RenderedText

SMALLEST = 6
"""Characters are never drawn smaller, in pixels per em."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A drawing and everything that was decided about it."""

    image: Image.Image
    """RGB, of the recipe's image_size."""
    text: str
    """The string that can be read in it."""
    typeface: str
    size: str
    """`small`, `medium` or `large`, against the height of the picture."""
    ink: str
    paper: str
    """Names of the colours."""
    place: str
    """Where the middle of the text lies: `top left` … `centre` … `bottom right`."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom of the ink, in pixels; right and bottom excluded."""
    colours: tuple[RGB, RGB]
    """Ink and paper as drawn, before noise."""

    @property
    def caption_long(self) -> str:
        """One sentence that names all of it."""
        return f'It reads "{self.text}" in {self.size} {self.ink} {self.typeface} on {self.paper}, {self.place}.'


class RenderedTextSource:
    """Drawings of a `rendered-text` source. `sample(index)` is the same in every process, in any order.

    Raises UserError when the longest string cannot be drawn legibly in the image.
    """

    def __init__(self, spec: RenderedText, seed: int):
        self.spec, self.seed = spec, seed
        self._strings = Strings(spec.content, spec.length, spec.split)
        height, width = spec.image_size
        self._margin = 1 if min(height, width) >= 12 else 0
        self._check_room()

    def sample(self, index: int) -> Rendered:
        """The drawing with a number (any non-negative integer)."""
        rng = generator("rendered", self.seed, self.spec.split, index)
        text = self._strings.pick(index, rng)
        face = int(rng.integers(self.spec.fonts))
        size, coverage = self._draw(text, face, rng.random())
        (ink_name, ink_rgb), (paper_name, paper_rgb) = self._colours(rng)
        (height, width), (rows, columns), margin = self.spec.image_size, coverage.shape, self._margin
        top = int(rng.integers(margin, height - margin - rows + 1))
        left = int(rng.integers(margin, width - margin - columns + 1))
        paper, step = np.array(paper_rgb, np.float32), np.subtract(ink_rgb, paper_rgb).astype(np.float32)
        canvas = np.empty((height, width, 3), np.float32)
        canvas[:] = paper
        canvas[top : top + rows, left : left + columns] += (coverage * np.float32(1 / 255))[..., None] * step
        if self.spec.noise:
            # Grey drawings stay grey: one noise for the three channels.
            channels = 3 if self.spec.colours else 1
            noise = rng.standard_normal((height, width, channels), np.float32)
            noise *= np.float32(255 * self.spec.noise)
            canvas += noise
        canvas += 0.5
        np.clip(canvas, 0, 255, out=canvas)
        return Rendered(
            image=Image.fromarray(canvas.astype(np.uint8)),
            text=text,
            typeface=FACES[face][0],
            size=_size_name(size / height),
            ink=ink_name,
            paper=paper_name,
            place=_place_name((top + rows / 2) / height, (left + columns / 2) / width),
            box=(left, top, left + columns, top + rows),
            colours=(ink_rgb, paper_rgb),
        )

    def _largest(self, text: str, face: int) -> int:
        """Largest size at which a text should fit, before hinting."""
        height, width = self.spec.image_size
        tall, wide = measures(face).extent(text)
        return math.floor(min((height - 2 * self._margin) / tall, (width - 2 * self._margin) / wide))

    def _draw(self, text: str, face: int, where: float) -> tuple[int, np.ndarray]:
        """(size, coverage) of a text at a size between a readable minimum and the largest that fits; `where` in [0, 1)."""
        height, width = (n - 2 * self._margin for n in self.spec.image_size)
        largest = self._largest(text, face)
        smallest = max(min(largest, 12), math.ceil(0.6 * largest))
        size = smallest + int(where * (largest - smallest + 1))
        coverage = ink(text, face, size)
        while coverage.shape[0] > height or coverage.shape[1] > width:  # hinting made it a pixel too wide
            size -= 1
            coverage = ink(text, face, size)
        return size, coverage

    def _colours(self, rng: np.random.Generator) -> tuple[tuple[str, RGB], tuple[str, RGB]]:
        """Names and values of ink and paper."""
        if not self.spec.colours:
            dark, light = int(rng.integers(15, 60)), int(rng.integers(200, 236))
            return ("dark grey", (dark, dark, dark)), ("light grey", (light, light, light))
        names = PAIRS[int(rng.integers(len(PAIRS)))]
        moved = np.add([PALETTE[name] for name in names], rng.integers(-JITTER, JITTER + 1, size=(2, 3)))
        (r, g, b), (r2, g2, b2) = np.clip(moved, 0, 255).tolist()
        return (names[0], (r, g, b)), (names[1], (r2, g2, b2))

    def _check_room(self) -> None:
        """Raises UserError unless the widest string fits at the smallest size in every typeface."""
        tallest = widest = 0.0
        for face in range(self.spec.fonts):
            text = self._strings.widest(measures(face).advance)
            tall, wide = (SMALLEST * share for share in measures(face).extent(text))
            tallest, widest = max(tallest, tall + 1), max(widest, wide + len(text))  # hinting adds up to a pixel a character
        (height, width), margin = self.spec.image_size, 2 * self._margin
        if tallest > height - margin or widest > width - margin:
            raise UserError(
                f'"{text}" cannot be drawn legibly in an image of [{height}, {width}] pixels',
                help=f"shorten `length`, or make `image_size` at least [{math.ceil(tallest) + 2}, {math.ceil(widest) + 2}]",
            )


def _size_name(share: float) -> str:
    """Name of a size, given as a share of the picture's height."""
    return "small" if share < 0.6 else "medium" if share < 0.9 else "large"


def _place_name(down: float, right: float) -> str:
    """Name of a place, given as shares of height and width; the middle eighth counts as the middle."""
    vertical = "top" if down < 0.4375 else "bottom" if down > 0.5625 else ""
    horizontal = "left" if right < 0.4375 else "right" if right > 0.5625 else ""
    return f"{vertical} {horizontal}".strip() or "centre"

"""Which sample grids go into the page, and in what size."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from smoe_cli.report.load import Grid

GRIDS = 12
"""Most grids in the page: the first, the last and some between."""
BYTES = 1_800_000
"""Budget of all embedded images, in bytes of the image files."""


@dataclass(frozen=True)
class Picture:
    """A grid as the page embeds it. `uri` is empty when the file cannot be shown, and `problem` says why."""

    grid: Grid
    uri: str = ""
    width: int = 0
    height: int = 0
    reduced: bool = False
    problem: str = ""


def choose(grids: Sequence[Grid], most: int = GRIDS) -> list[Grid]:
    """At most `most` grids, evenly spread over the list, the first and the last among them."""
    if len(grids) <= most:
        return list(grids)
    return [grids[round(index * (len(grids) - 1) / (most - 1))] for index in range(most)]


def embed(grid: Grid, budget: int) -> Picture:
    """The file as a data URI. PNG as it is if it fits `budget` bytes, else a smaller JPEG."""
    from PIL import Image, UnidentifiedImageError

    try:
        raw = grid.file.read_bytes()
        with Image.open(BytesIO(raw)) as image:
            image.load()
            width, height = image.size
            if len(raw) <= budget and image.format == "PNG":
                return Picture(grid, _uri(raw, "png"), width, height)
            jpeg = _shrink(image.convert("RGB"), budget)
    except FileNotFoundError:
        return Picture(grid, problem=f"samples/{grid.file.name} is missing")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Picture(grid, problem=f"samples/{grid.file.name} is not a readable image")
    return Picture(grid, _uri(jpeg, "jpeg"), width, height, reduced=True)


def _shrink(image: object, budget: int) -> bytes:
    """JPEG bytes of an RGB Pillow image, halved until they fit."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    image.thumbnail((1600, 1600))
    while True:
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=85)
        if buffer.tell() <= budget or min(image.size) < 32:
            return buffer.getvalue()
        image = image.resize((max(1, image.width * 2 // 3), max(1, image.height * 2 // 3)))


def _uri(raw: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"

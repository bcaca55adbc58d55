"""Sample grids as the page embeds them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

from smoe_cli.report.load import Grid
from smoe_cli.report.markup import Html, el

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


def image(picture: Picture, room: int) -> Html:
    """The picture at a whole multiple of its size that fits `room` pixels."""
    grid = picture.grid
    alt = f"Samples at step {grid.step}" + (f", for: {', '.join(grid.prompts[:12])}" if grid.prompts else "")
    scale = max(1, min(4, room // max(1, picture.width)))
    style = "image-rendering:pixelated" if scale > 1 else None
    return el("img", src=picture.uri, width=picture.width * scale, height=picture.height * scale, alt=alt, style=style)


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

"""Drawings: exact, legible, deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smoe_cli.data.colours import JITTER, PAIRS, PALETTE, contrast
from smoe_cli.data.rendered import SMALLEST, Rendered, RenderedTextSource
from smoe_cli.data.typefaces import CHARACTERS, FACES, font, ink, measures
from smoe_cli.errors import UserError

from .make import rendered

SETTINGS: list[dict[str, Any]] = [
    {"image_size": [16, 32]},
    {"image_size": [8, 16], "length": [1, 2]},
    {"image_size": [16, 32], "length": [1, 3], "fonts": 8, "colours": False},
    {"image_size": [16, 48], "content": "words", "length": [3, 6], "fonts": 8},
    {"image_size": [64, 40], "content": "words", "length": [2, 4], "fonts": 8},
]


def _samples(settings: dict[str, Any], n: int = 60, seed: int = 0) -> list[Rendered]:
    source = RenderedTextSource(rendered(**settings), seed)
    return [source.sample(i) for i in range(n)]


def _array(drawing: Rendered) -> np.ndarray:
    return np.asarray(drawing.image).astype(int)


def _fonts_by_name() -> dict[str, int]:
    return {name: i for i, (name, _) in enumerate(FACES)}


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_whole_text_is_inside_the_image(settings: dict[str, Any]) -> None:
    """Without noise, what differs from the paper is exactly the text as the font draws it on an unbounded canvas."""
    height, width = settings["image_size"]
    for drawing in _samples({**settings, "noise": 0}):
        array, paper = _array(drawing), np.array(drawing.colours[1])
        assert array.shape == (height, width, 3)
        left, top, right, bottom = drawing.box
        outside = np.ones((height, width), bool)
        outside[top:bottom, left:right] = False
        assert (array[outside] == paper).all()
        face = _fonts_by_name()[drawing.typeface]
        masks = (ink(drawing.text, face, size) / 255 for size in range(SMALLEST, 2 * height))
        expected = [mask for mask in masks if mask.shape == (bottom - top, right - left)]
        shade = np.abs(array[top:bottom, left:right] - paper).sum(-1)
        darkest = np.abs(np.subtract(*drawing.colours)).sum()
        assert min(np.abs(shade / darkest - mask).max() for mask in expected) < 0.03


def test_the_ink_is_that_of_pillow() -> None:
    """Our cropped coverage equals Pillow's own drawing on a large canvas."""
    from PIL import Image, ImageDraw

    for face in range(len(FACES)):
        canvas = Image.new("L", (200, 100))
        ImageDraw.Draw(canvas).text((50, 30), "g407y", fill=255, font=font(face, 20))
        box = canvas.getbbox()
        assert box is not None
        assert (np.asarray(canvas.crop(box)) == ink("g407y", face, 20)).all()


@pytest.mark.parametrize("settings", SETTINGS)
def test_characters_are_as_large_as_the_image_allows(settings: dict[str, Any]) -> None:
    """Width or height of the text takes at least half of the image."""
    height, width = settings["image_size"]
    for drawing in _samples(settings):
        left, top, right, bottom = drawing.box
        assert max((right - left) / width, (bottom - top) / height) >= 0.5


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_drawing_depends_on_seed_split_and_index_alone(split: str) -> None:
    settings = {"image_size": [16, 32], "split": split}
    first = [(d.text, d.caption_long, d.image.tobytes()) for d in _samples(settings, 20)]
    source = RenderedTextSource(rendered(**settings), 0)
    again = [source.sample(i) for i in reversed(range(20))][::-1]
    assert [(d.text, d.caption_long, d.image.tobytes()) for d in again] == first
    other = _samples(settings, 20, seed=1)
    assert [d.image.tobytes() for d in other] != [image for _, _, image in first]


def test_heldout_strings_are_never_drawn_in_training() -> None:
    train, held = ({d.text for d in _samples({"image_size": [16, 32], "split": s}, 400)} for s in ("train", "heldout"))
    assert train.isdisjoint(held)
    assert min(len(train), len(held)) > 50


def test_seeds_draw_the_same_strings_in_different_ways() -> None:
    """The strings of the first n drawings are the same for every seed, so that evaluations of two seeds can be compared."""
    assert [d.text for d in _samples(SETTINGS[0], 20, 0)] == [d.text for d in _samples(SETTINGS[0], 20, 5)]


def test_everything_varies() -> None:
    drawings = _samples({"image_size": [32, 64], "fonts": 8}, 300)
    for kinds, least in (
        ({d.text for d in drawings}, 200),
        ({d.typeface for d in drawings}, 8),
        ({d.size for d in drawings}, 3),
        ({d.place for d in drawings}, 9),
        ({d.ink for d in drawings}, 10),
        ({d.paper for d in drawings}, 10),
    ):
        assert len(kinds) >= least


def test_one_font_is_sans() -> None:
    assert {d.typeface for d in _samples({"image_size": [16, 32], "fonts": 1})} == {"sans"}


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_long_caption_tells_what_is_drawn(settings: dict[str, Any]) -> None:
    """Place and colours are read back from the pixels, not from what the source says."""
    height, width = settings["image_size"]
    for drawing in _samples({**settings, "noise": 0}):
        array = _array(drawing)
        corner = array[[0, 0, -1, -1], [0, -1, 0, -1]]
        paper = corner[np.argmax([(corner == c).all(1).sum() for c in corner])]
        rows, columns = np.nonzero(np.abs(array - paper).sum(-1) > 0)
        down = (rows.min() + rows.max() + 1) / 2 / height
        right = (columns.min() + columns.max() + 1) / 2 / width
        caption = drawing.caption_long
        assert f'"{drawing.text}"' in caption
        assert f" {drawing.typeface} on" in caption
        place = caption.split(", ")[-1]
        assert ("top" in place) == (down < 0.4375)
        assert ("bottom" in place) == (down > 0.5625)
        assert ("left" in place) == (right < 0.4375)
        assert ("right" in place) == (right > 0.5625)
        assert (place == "centre.") == (0.4375 <= down <= 0.5625 and 0.4375 <= right <= 0.5625)
        if settings.get("colours", True):
            nearest = min(PALETTE, key=lambda name: np.abs(np.subtract(PALETTE[name], paper)).sum())
            assert f" on {nearest}, " in caption
        else:
            assert "dark grey" in caption
            assert "on light grey" in caption


def test_size_names_follow_the_size() -> None:
    order = {"small": 0, "medium": 1, "large": 2}
    drawings = _samples({"image_size": [32, 64], "fonts": 1, "length": [3, 3]}, 200)
    tall = sorted((d.box[3] - d.box[1], order[d.size]) for d in drawings)
    assert [size for _, size in tall] == sorted(size for _, size in tall)


def test_every_pair_of_colours_can_be_told_apart() -> None:
    assert len(PAIRS) >= 40
    for ink_name, paper_name in PAIRS:
        pair = [PALETTE[ink_name], PALETTE[paper_name]]
        dark, light = sorted(pair, key=sum)
        r, g, b = (min(c + JITTER, 255) for c in dark)
        r2, g2, b2 = (max(c - JITTER, 0) for c in light)
        assert contrast((r, g, b), (r2, g2, b2)) >= 3


def test_without_colours_the_ink_is_dark_and_the_image_grey() -> None:
    for drawing in _samples({"image_size": [16, 32], "colours": False, "noise": 0.1}):
        array = _array(drawing)
        assert (array == array[..., :1]).all()
        assert contrast(*drawing.colours) >= 5
        assert drawing.colours[0] < drawing.colours[1]


def test_noise_has_the_standard_deviation_asked_for() -> None:
    settings = {"image_size": [64, 64], "fonts": 1, "length": [3, 3], "colours": False}
    for share in (0.02, 0.1):
        spread = []
        for drawing in _samples({**settings, "noise": share}, 20):
            left, top, right, bottom = drawing.box
            paper = _array(drawing)[..., 0].astype(float)
            paper[top:bottom, left:right] = np.nan
            spread.append(np.nanstd(paper))
        assert np.mean(spread) / 255 == pytest.approx(share, rel=0.2)


def test_text_that_cannot_be_legible_is_refused_with_the_size_it_needs() -> None:
    with pytest.raises(UserError, match=r"cannot be drawn legibly in an image of \[16, 32\]") as caught:
        RenderedTextSource(rendered(image_size=[16, 32], length=[2, 12]), 0)
    assert caught.value.help is not None
    needed = [int(n) for n in caught.value.help.split("[")[1].rstrip("]").split(",")]
    RenderedTextSource(rendered(image_size=needed, length=[2, 12], fonts=4), 0).sample(0)


def test_measures_agree_with_the_ink() -> None:
    for face in range(len(FACES)):
        for text in ("407", "gym", CHARACTERS[10:16]):
            tall, wide = measures(face).extent(text)
            rows, columns = ink(text, face, 100).shape
            assert rows == pytest.approx(100 * tall, abs=2)
            assert columns == pytest.approx(100 * wide, abs=len(text) + 1)

"""Images to pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smoe_cli.data.images import PADDING, fit, pixels, read_image
from smoe_cli.data.sample import BadRow

from .make import picture, png


@pytest.mark.parametrize(
    "wrap", [lambda b: b, lambda b: {"bytes": b, "path": None}, lambda b: {"bytes": b}, memoryview, bytearray]
)
def test_bytes_in_every_form(wrap: type) -> None:
    assert read_image(wrap(png()), None).tobytes() == picture().tobytes()


def test_paths_are_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(png())
    for value, folder in (
        ("images/a.png", tmp_path),
        (str(tmp_path / "images/a.png"), None),
        ({"bytes": None, "path": "a.png"}, tmp_path / "images"),
    ):
        assert read_image(value, folder).getpixel((0, 0)) == (10, 200, 30)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "image is missing"),
        ("", "image is missing"),
        ({"bytes": None, "path": None}, "image is missing"),
        (b"not an image", "image cannot be read"),
        (png()[:40], "image cannot be read"),
        (png()[:-30], "image cannot be read"),
        ("gone.png", "image file not found"),
        (7, "image has the wrong type"),
        ({"x": 1}, "image has the wrong type"),
    ],
)
def test_broken_images_are_bad_rows(value: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadRow) as caught:
        read_image(value, tmp_path)
    assert caught.value.reason == reason


def test_a_relative_path_without_a_folder_is_a_bad_row() -> None:
    with pytest.raises(BadRow, match="has no folder"):
        read_image("a.png", None)


def test_transparency_becomes_white() -> None:
    for image in (picture((255, 0, 0, 0), mode="RGBA"), picture((0, 0), mode="LA")):
        assert read_image(png(image), None).getpixel((0, 0)) == (255, 255, 255)
    palette = picture().convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert read_image(png(palette), None).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    image = Image.fromarray(np.array([[0, 128 * 256, 65535]], np.uint16))
    assert [read_image(png(image), None).getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]


def test_orientation_is_applied() -> None:
    image = picture(size=(8, 6))
    exif = image.getexif()
    exif[0x0112] = 6
    import io

    buffer = io.BytesIO()
    image.save(buffer, format="PNG", exif=exif)
    assert read_image(buffer.getvalue(), None).size == (6, 8)


@pytest.mark.parametrize(
    ("size", "target"), [((8, 6), (16, 32)), ((100, 7), (16, 32)), ((5, 90), (8, 8)), ((32, 16), (16, 32)), ((3, 1000), (4, 4))]
)
def test_fitting_keeps_proportions_and_fills_with_grey(size: tuple[int, int], target: tuple[int, int]) -> None:
    fitted = np.asarray(fit(picture((255, 0, 0), size), target))
    assert fitted.shape == (*target, 3)
    inside = (fitted == (255, 0, 0)).all(-1)
    assert ((fitted == PADDING).all(-1) | inside).all()
    rows, columns = np.nonzero(inside)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert inside.sum() == tall * wide, "one rectangle"
    assert tall == target[0] or wide == target[1], "as large as fits"
    scale = min(target[0] / size[1], target[1] / size[0])
    assert (tall, wide) == (max(1, round(size[1] * scale)), max(1, round(size[0] * scale)))
    assert abs(rows.min() - (target[0] - 1 - rows.max())) <= 1, "centred"


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = picture(size=(32, 16))
    assert fit(image, (16, 32)) is image


def test_pixels_run_from_minus_one_to_one() -> None:
    image = Image.fromarray(np.array([[[0, 255, 51], [255, 0, 204]]], np.uint8))
    array = pixels(image, (1, 2))
    assert array.dtype == np.float32
    assert array.shape == (3, 1, 2)
    expected = [[[-1, 1]], [[1, -1]], [[-0.6, 0.6]]]
    assert np.abs(array - expected).max() < 1e-6


def test_no_program_is_run_for_an_image(tmp_path: Path) -> None:
    picture(3).save(tmp_path / "a.eps")
    with pytest.raises(BadRow, match="EPS file"):
        read_image("a.eps", tmp_path)

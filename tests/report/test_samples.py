"""Grids in the page: which, and how large."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from smoe_cli.report.load import Grid
from smoe_cli.report.samples import embed
from smoe_cli.report.spread import spread


def grid(path: Path, step: int = 1) -> Grid:
    return Grid(step, "a", path, ("42",))


@pytest.mark.parametrize(("have", "steps"), [(0, []), (3, [0, 1, 2]), (9, [0, 3, 5, 8])])
def test_first_and_last_are_chosen_and_the_rest_spread(tmp_path: Path, have: int, steps: list[int]) -> None:
    assert [one.step for one in spread([grid(tmp_path, step) for step in range(have)], most=4)] == steps


def test_a_small_png_is_embedded_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "navy").save(tmp_path / "a.png")
    picture = embed(grid(tmp_path / "a.png"), 10_000)
    assert (picture.width, picture.height, picture.reduced, picture.problem) == (40, 20, False, "")
    kind, _, data = picture.uri.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "a.png").read_bytes()


def test_a_large_one_is_reduced_to_the_budget(tmp_path: Path) -> None:
    Image.effect_noise((900, 600), 90).save(tmp_path / "a.png")
    picture = embed(grid(tmp_path / "a.png"), 50_000)
    raw = base64.b64decode(picture.uri.partition(",")[2])
    assert picture.reduced
    assert len(raw) <= 50_000
    with Image.open(BytesIO(raw)) as image:
        assert image.format == "JPEG"
        assert image.width / image.height == pytest.approx(1.5, rel=0.02)
    assert (picture.width, picture.height) == (900, 600), "shown at its own size"


def test_what_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    assert "missing" in embed(grid(tmp_path / "none.png"), 1000).problem
    assert "not a readable image" in embed(grid(tmp_path / "torn.png"), 1000).problem

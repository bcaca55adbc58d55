from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.judge import Judge, crop
from smoe_cli.recipe.models import RenderedText


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.mark.parametrize(
    ("size", "content", "length", "more"),
    [
        ((12, 24), "digits", (3, 3), {"fonts": 2, "colours": False, "noise": 0.0}),  # the quickstart's
        ((16, 32), "digits", (2, 3), {"fonts": 8}),
        ((32, 128), "words", (3, 8), {"fonts": 8}),
        ((128, 128), "words", (3, 6), {"fonts": 8}),
    ],
)
def test_true_renderings_are_read(judge: Judge, size: tuple, content: str, length: tuple, more: dict[str, Any]) -> None:
    """Small or large, noisy, coloured, light on dark, somewhere in the picture."""
    spec = {"kind": "rendered-text", "task": "t2i", "image_size": size, "content": content, "length": length, **more}
    source = RenderedTextSource(RenderedText.model_validate(spec), 0)
    samples = [source.sample(index) for index in range(20)]
    wrong = [(one.text, read) for one in samples if (read := judge.read(one.image)).casefold() != one.text]
    assert len(wrong) <= 1, wrong


def test_nothing_is_read_where_nothing_is(judge: Judge) -> None:
    assert judge.read(Image.new("RGB", (24, 12), "white")) == ""
    assert crop(np.zeros((1, 1, 3), np.uint8)) is None


def test_the_crop_holds_the_ink_in_a_frame_of_paper() -> None:
    picture = np.full((40, 60, 3), (200, 220, 240), np.uint8)
    picture[10:30, 20:50] = (10, 20, 30)
    picture[5, 5] = (150, 160, 170)  # too faint to be ink
    cropped = crop(picture)
    assert cropped is not None
    assert cropped.shape == (24, 34, 3)
    assert (cropped[2:-2, 2:-2] == (10, 20, 30)).all()
    assert (cropped[:2] == (200, 220, 240)).all()
    assert (cropped[:, -2:] == (200, 220, 240)).all()


def test_it_says_what_it_is_and_leaves_states_alone() -> None:
    state, level = torch.get_rng_state(), logging.getLogger().level
    facts = Judge().facts
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.getLogger().level == level
    assert facts["name"].startswith("rapidocr-1.4")
    assert len(facts["sha256"]) == 64


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="rapidocr-onnxruntime, which reads the drawings, is not installed") as caught:
        Judge()
    assert caught.value.help == "pip install 'smoe[generation]'"

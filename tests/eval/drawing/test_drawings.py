from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.drawings import draw_captions
from smoe_cli.eval.models import Asking, OpenModel
from smoe_cli.model.inference import draw
from tests.eval.folders import build
from tests.helpers import tiny

CAPTIONS = ["1", "22", "a longer one", "4", "5"]


@pytest.fixture(scope="module")
def opened() -> OpenModel:
    return OpenModel(*build(tiny(**{"training.sampling": {"steps": 2}})))


def drawn(asking: Asking, keep: int = 0) -> list[Image.Image]:
    return [image for batch in draw_captions(asking, "image-distance", CAPTIONS, 10, keep) for image in batch]


def test_each_is_drawn_from_a_seed_of_its_own_whatever_the_batch(opened: OpenModel) -> None:
    sampling = opened.model.recipe.training.sampling
    alone = [draw(opened.model, opened.tokenizer, [text], sampling, 10 + i)[0] for i, text in enumerate(CAPTIONS)]
    for batch_size in (1, 2, 5):
        for image, expected in zip(drawn(Asking(opened, batch_size)), alone, strict=True):
            assert image.tobytes() == expected.tobytes()


def test_the_first_ones_are_kept_and_say_how_they_were_made(opened: OpenModel, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    images = drawn(Asking(opened, 2, tmp_path, lambda done, all_: told.append((done, all_)), "step-7-image-distance"), keep=3)
    assert told == [(2, 5), (4, 5), (5, 5)]
    folder = tmp_path / "data" / "step-7-image-distance"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["caption"], row["seed"]) for row in rows] == [("1", 10), ("22", 11), ("a longer one", 12)]
    for row, image in zip(rows, images, strict=False):
        with Image.open(folder / row["file_name"]) as kept:
            assert kept.tobytes() == image.tobytes()
            assert (kept.text["prompt"], kept.text["seed"], kept.text["steps"]) == (row["caption"], str(row["seed"]), "2")
    assert len(list(folder.iterdir())) == 4


def test_drawings_that_were_not_looked_at_to_the_end_are_not_kept(opened: OpenModel, tmp_path: Path) -> None:
    batches = draw_captions(Asking(opened, 2, tmp_path, name="x"), "image-distance", CAPTIONS, 0, 5)
    next(batches)
    batches.close()
    assert list((tmp_path / "data").iterdir()) == []


def test_a_caption_that_does_not_fit_is_named_before_anything_is_drawn(opened: OpenModel) -> None:
    with pytest.raises(UserError, match=r"caption 2: .* do not fit"):
        next(draw_captions(Asking(opened), "image-distance", ["1", "x" * 100_000], 0, 0))

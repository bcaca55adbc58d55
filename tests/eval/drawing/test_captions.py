from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.captions import Captions, captions_of
from smoe_cli.recipe.measures import ImageDistance
from tests.helpers import tiny


def task(**keys: object) -> ImageDistance:
    return ImageDistance.model_validate({"task": "image-distance", **keys})


def walked(captions: Captions, batch_size: int = 3) -> list[int]:
    return [len(batch) for batch in captions.walk(batch_size)]


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    rows = []
    for index in range(count):
        Image.new("RGB", (8, 6), (index * 20, 0, 0)).save(folder / f"{index}.png")
        rows.append({"file_name": f"{index}.png", "caption": f"red {index}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_held_out_samples_of_a_source() -> None:
    captions = captions_of(task(source="draw", images=7, seed=4), "image-distance", tiny())
    assert walked(captions) == [3, 3, 1]
    train = tiny().data.sources["draw"]
    heldout = RenderedTextSource(train.model_copy(update={"split": "heldout"}), 4)
    assert captions.texts == [heldout.sample(index).text for index in range(7)]
    assert captions.facts == {"source": "draw", "split": "heldout"}


def test_which_samples_does_not_depend_on_the_recipes_seed_or_the_batch() -> None:
    one, other, third = (
        captions_of(task(source="draw", images=5, seed=own), "image-distance", tiny(seed=seed))
        for own, seed in ((1, 0), (1, 8), (2, 0))
    )
    for captions, size in ((one, 2), (other, 5), (third, 5)):
        walked(captions, size)
    assert one.prompt_sha256 == other.prompt_sha256
    assert one.hashes == other.hashes
    assert one.hashes != third.hashes


def test_a_folder_of_captioned_pictures(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 5)
    captions = captions_of(task(data=str(folder), images=100), "image-distance", None)
    assert captions.count == 5
    assert walked(captions) == [3, 2]
    assert sorted(captions.texts) == [f"red {index}" for index in range(5)]
    assert captions.facts["source"] == "pictures"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file or folder `some/dataset`"):
        captions_of(task(data="some/dataset"), "image-distance", None)
    with pytest.raises(UserError, match="`nothing` is not a source with task `t2i`"):
        captions_of(task(source="nothing"), "image-distance", tiny())
    folder = write_pictures(tmp_path / "pictures", 2)
    (folder / "1.png").unlink()
    with pytest.raises(UserError, match="no image file") as caught:
        walked(captions_of(task(data=str(folder)), "image-distance", None))
    assert "metadata.jsonl" in caught.value.message


def test_a_folder_without_captions(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 1)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(UserError, match=r'row 1 of .*: no column "caption"') as caught:
        walked(captions_of(task(data=str(folder)), "image-distance", None))
    assert "metadata.jsonl" in str(caught.value.help)


def test_a_source_that_is_read_in_its_own_order(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 3)
    recipe = tiny(**{"data.sources.own": {"kind": "dataset", "task": "t2i", "path": str(folder), "streaming": True}})
    captions = captions_of(task(source="own", images=2), "image-distance", recipe)
    walked(captions)
    assert captions.texts == ["red 0", "red 1"]
    assert captions.facts == {"source": "own", "split": "train"}

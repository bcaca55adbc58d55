"""Which drawings `smoe eval` asks for."""

from __future__ import annotations

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.choose import choose
from smoe_cli.recipe.measures import ClipScore, DrawnText, ImageDistance
from tests.eval.folders import READING_ONLY
from tests.helpers import tiny

TASKS = {"evaluation.tasks": [{"task": "image-distance", "source": "draw", "images": 50, "seed": 3}]}


def test_the_first_source_that_can_be_drawn() -> None:
    settings = ["clip-score.clip=models/clip", "image-distance.seed=4"]
    tasks = choose(tiny(), ["drawn-text", "image-distance", "clip-score"], settings=settings, limit=20)
    assert tasks == [
        DrawnText(task="drawn-text", source="draw", strings=20),
        ImageDistance(task="image-distance", source="draw", images=20, seed=4),
        ClipScore(task="clip-score", source="draw", images=20, clip="models/clip"),
    ]


def test_the_recipe_s_own_task_and_data_instead_of_its_source() -> None:
    [task] = choose(tiny(**TASKS), None)
    assert task == ImageDistance(task="image-distance", source="draw", images=50, seed=3)
    [task] = choose(tiny(**TASKS), None, ["pictures.csv"], limit=60)
    assert task == ImageDistance(task="image-distance", data="pictures.csv", images=50, seed=3)


def test_models_that_have_nothing_to_draw() -> None:
    with pytest.raises(UserError, match="drawn-text: recipe `tiny` has no `rendered-text` source with task `t2i`"):
        choose(tiny(**READING_ONLY), ["drawn-text"])
    with pytest.raises(UserError, match=r"image-distance: a plain model .* no recipe with a source with task `t2i`") as caught:
        choose(None, ["image-distance"])
    assert caught.value.help == "pass --data image-distance=PATH, a table of captions and pictures"
    with pytest.raises(UserError, match="`drawn-text` reads no data"):
        choose(tiny(), ["drawn-text"], ["drawn-text=x"])
    with pytest.raises(UserError, match="task `clip-score` needs its key `clip`"):
        choose(tiny(), ["clip-score"])

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.checks import check_tasks
from smoe_cli.recipe.measures import ClipScore, DrawingTask, DrawnText, ImageDistance
from tests.eval.drawing.seeing import write_clip, write_vit
from tests.helpers import tiny


def test_tasks_that_can_be_measured(tmp_path: Path) -> None:
    for task in (
        DrawnText(task="drawn-text", source="draw"),
        ImageDistance(task="image-distance", source="draw"),
        ImageDistance(task="image-distance", source="draw", extractor=str(write_vit(tmp_path / "vit"))),
        ClipScore(task="clip-score", source="draw", clip=str(write_clip(tmp_path / "clip"))),
    ):
        check_tasks([task], tiny())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ImageDistance(task="image-distance", source="draw", extractor="nowhere"), "extractor nowhere: no such folder"),
        (ImageDistance(task="image-distance", data="nowhere/pictures.csv"), "nowhere/pictures.csv"),
        (ClipScore(task="clip-score", source="draw", clip="nowhere"), "clip-score: nowhere: no such folder"),
    ],
)
def test_what_is_missing_stops_a_run_before_it_begins(task: DrawingTask, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_tasks([task], tiny())


def test_a_judge_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for task in (DrawnText(task="drawn-text", source="draw"), ImageDistance(task="image-distance", source="draw")):
        with pytest.raises(UserError, match="is not installed"):
            check_tasks([task], tiny())

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.checks import check_tasks
from smoe_cli.recipe.measures import ClipScore, DrawnText, EvalTask, ImageDistance, OcrBench, RenderedOcr
from tests.eval.drawing.seeing import write_clip, write_vit
from tests.eval.drawing.test_captions import write_pictures
from tests.eval.opening.sighted import write_questions
from tests.helpers import tiny


def test_tasks_that_can_be_measured(tmp_path: Path) -> None:
    for task in (
        RenderedOcr(task="rendered-ocr", source="read"),
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
        (RenderedOcr(task="rendered-ocr", source="nowhere"), "`nowhere` is not a `rendered-text` source with task `mmu`"),
        (DrawnText(task="drawn-text", source="nowhere"), "`nowhere` is not a source with task `t2i`"),
    ],
)
def test_what_is_missing_stops_a_run_before_it_begins(task: EvalTask, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_tasks([task], tiny())


def test_pictures_that_cannot_be_read_stop_a_run_before_it_begins(tmp_path: Path) -> None:
    """Of a table to measure with, of a source that training would go on without, of questions."""
    pictures = write_pictures(tmp_path / "pictures", 3)
    (pictures / "1.png").write_bytes(b"no picture")
    recipe = tiny(**{"data.sources.own": {"kind": "dataset", "task": "t2i", "path": str(pictures)}})
    for task in (ImageDistance(task="image-distance", data=str(pictures)), ImageDistance(task="image-distance", source="own")):
        with pytest.raises(UserError, match=r"row 2 of .*metadata\.jsonl: image cannot be read") as caught:
            check_tasks([task], recipe)
        assert caught.value.help
    questions = write_questions(tmp_path / "ocr", 3)
    (tmp_path / "ocr" / "2.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"questions\.jsonl: row 3: image cannot be read"):
        check_tasks([OcrBench(task="ocrbench", data=str(questions))], recipe)
    check_tasks([OcrBench(task="ocrbench", data=str(questions), limit=2)], recipe)


def test_a_judge_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for task in (DrawnText(task="drawn-text", source="draw"), ImageDistance(task="image-distance", source="draw")):
        with pytest.raises(UserError, match="is not installed"):
            check_tasks([task], tiny())

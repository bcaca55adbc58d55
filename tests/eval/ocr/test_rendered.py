from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.eval.ocr.data import load_ocr
from smoe_cli.eval.ocr.rendered import write_rendered
from smoe_cli.eval.ocr.scoring import name_of
from smoe_cli.recipe.models import RenderedText


def source(**change: Any) -> RenderedText:
    return RenderedText(kind="rendered-text", task="mmu", image_size=(16, 32), length=(2, 3), **change)


def test_columns_and_content(tmp_path: Path) -> None:
    spec = source(question="What does it say?")
    data = load_ocr(write_rendered(spec, "read", 3, 5, tmp_path / "out"))
    assert name_of([(question.dataset, question.question_type) for question in data.questions]) == "rendered-ocr"
    heldout = RenderedTextSource(spec.model_copy(update={"split": "heldout"}), 3)
    for index, question in enumerate(data.questions):
        drawn = heldout.sample(index)
        assert question.answers == (drawn.text,)
        assert question.decode().tobytes() == drawn.image.tobytes()  # PNG loses nothing
        assert (question.question, question.question_type) == ("What does it say?", "Digit String Recognition")
    assert len(data.questions) == 5


def test_same_bytes_every_time_and_other_bytes_for_another_seed(tmp_path: Path) -> None:
    def content(name: str, seed: int) -> list[bytes]:
        file = write_rendered(source(), "read", seed, 3, tmp_path / name)
        return [path.read_bytes() for path in sorted(file.parent.iterdir())]

    first = content("a", 0)
    assert len(first) == 2  # the card and the table
    assert content("a", 0) == content("b", 0) == first  # over an old one, too
    assert content("c", 1) != first


def test_strings_are_not_those_of_training(tmp_path: Path) -> None:
    data = load_ocr(write_rendered(source(split="train"), "read", 0, 40, tmp_path / "out"))
    train = RenderedTextSource(source(), 0)
    assert not {question.answers[0] for question in data.questions} & {train.sample(index).text for index in range(400)}


@pytest.mark.parametrize(("content", "kind"), [("digits", "Digit String Recognition"), ("words", "Regular Text Recognition")])
def test_question_type_and_card(tmp_path: Path, content: str, kind: str) -> None:
    file = write_rendered(source(content=content), "read", 0, 2, tmp_path / "out")
    assert pq.read_table(file)["question_type"].to_pylist() == [kind] * 2
    card = (file.parent / "README.md").read_text(encoding="utf-8")
    assert "Not OCRBench" in card
    assert f'"content": "{content}"' in card


def test_datasets_library_reads_the_folder_with_images(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_rendered(source(), "read", 0, 2, tmp_path / "out")
    rows = datasets.load_dataset(str(tmp_path / "out"), split="test", cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == 2
    assert rows[0]["image"].size == (32, 16)
    assert rows.column_names == ["dataset", "question", "question_type", "answer", "image"]

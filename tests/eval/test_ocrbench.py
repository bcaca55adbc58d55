from __future__ import annotations

from pathlib import Path

from PIL import Image

from smoe_cli.eval.ocr_data import OcrData, OcrQuestion
from smoe_cli.eval.ocrbench import evaluate_ocr
from smoe_cli.eval.results import Count
from smoe_cli.eval.tables import Row

from .test_ocr_data import png


class Parrot:
    """Answers with the question; remembers the batches it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        assert max_new_tokens == 128
        assert [image.mode for image in images] == ["RGB"] * len(questions)
        self.batches.append(len(questions))
        return questions


def question(number: int, text: str, answers: tuple[str, ...], kind: str, dataset: str = "svt") -> OcrQuestion:
    return OcrQuestion(Row(Path("f"), number, {}), dataset, text, kind, answers, png())


DATA = OcrData(
    (
        question(1, "It says CENTRE", ("centre",), "Regular Text Recognition"),
        question(2, "42", ("42",), "Digit String Recognition"),
        question(3, "7", ("42",), "Digit String Recognition"),
        question(4, "a + b", ("a+b",), "Handwritten Mathematical Expression Recognition", "HME100k"),
        question(5, "a + b", ("a+b",), "Doc-oriented VQA", "docVQA"),
    ),
    (Path("f"),),
)


def test_counts_by_group_and_type() -> None:
    result = evaluate_ocr(Parrot(), DATA, "ocrbench")
    assert (result.task, result.name, result.total, result.exact) == ("ocrbench", "ocrbench", Count(3, 5), Count(2, 5))
    assert result.score == 0.6
    assert result.groups == {
        "Text Recognition": Count(2, 3),
        "Handwritten Mathematical Expression Recognition": Count(1, 1),
        "Doc-oriented VQA": Count(0, 1),
    }
    assert result.subgroups["Digit String Recognition"] == Count(1, 2)
    assert sum(result.groups.values(), Count()) == sum(result.subgroups.values(), Count()) == result.total


def test_batches_limit_and_progress() -> None:
    parrot, seen = Parrot(), []
    result = evaluate_ocr(
        parrot, DATA, "ocrbench", limit=3, batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    assert parrot.batches == [2, 1]
    assert seen == [(2, 3), (3, 3)]
    assert result.total == Count(2, 3)
    assert result.warnings[-1] == "only the first 3 of 5 questions"


def test_protocol_names_what_kits_differ_in() -> None:
    protocol = evaluate_ocr(Parrot(), DATA, "ocrbench").protocol
    assert (protocol["suffix"], protocol["max_new_tokens"], protocol["decoding"]) == ("", 128, "greedy")
    other = OcrData((question(1, "another", ("x",), "Doc-oriented VQA"),), DATA.files)
    assert evaluate_ocr(Parrot(), other, "ocrbench").protocol["prompt_sha256"] != protocol["prompt_sha256"]

"""Asking and scoring, with an answerer that is no model."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from rich.console import Console

from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.data import OcrData, OcrQuestion, load_ocr
from smoe_cli.eval.ocr.ocrbench import evaluate_ocr
from smoe_cli.eval.ocr.scoring import TYPES
from smoe_cli.eval.results import Count, Result, table
from smoe_cli.eval.tables import Row
from smoe_cli.recipe.measures import OcrBench
from tests.eval.ocr.test_data import png, row, write


class Parrot:
    """Answers with the question; remembers what it was asked."""

    preprocessing: ClassVar = {"size": [4, 2]}

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.tokens: set[int] = set()

    def check(self, name: str, image: Image.Image, question: str, max_new_tokens: int) -> None:
        assert image.mode == "RGB"

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        assert [image.mode for image in images] == ["RGB"] * len(questions)
        self.batches.append(len(questions))
        self.tokens.add(max_new_tokens)
        return questions


def how(**change: Any) -> OcrBench:
    return OcrBench(task="ocrbench", data="f", **change)


def question(number: int, text: str, answers: tuple[str, ...], kind: str, dataset: str = "svt") -> OcrQuestion:
    return OcrQuestion(Row(Path("f"), number, {}), dataset, text, kind, answers, png())


DATA = OcrData(
    (
        question(1, "a + b", ("a+b",), "Handwritten Mathematical Expression Recognition", "HME100k"),
        question(2, "It says CENTRE", ("centre",), "Regular Text Recognition"),
        question(3, "42", ("42",), "Digit String Recognition"),
        question(4, "7", ("42",), "Digit String Recognition"),
        question(5, "a + b", ("a+b",), "Doc-oriented VQA", "docVQA"),
    ),
    (Path("f"),),
)


def shown(result: Result, details: bool = False) -> list[str]:
    """The lines of the table in the terminal."""
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table([result], details))
    return [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]


def test_counts_by_group_and_type_in_the_benchmark_s_order() -> None:
    result = evaluate_ocr(Parrot(), DATA, "ocrbench", how())
    assert (result.task, result.name, result.version) == ("ocrbench", "ocrbench", 1)
    assert {name: metric.count for name, metric in result.metrics.items()} == {"acc": Count(3, 5), "exact": Count(2, 5)}
    assert list(result.groups.items()) == [
        ("Text Recognition", Count(2, 3)),
        ("Doc-oriented VQA", Count(0, 1)),
        ("Handwritten Mathematical Expression Recognition", Count(1, 1)),
    ]
    assert result.subgroups["Digit String Recognition"] == Count(1, 2)
    assert list(result.subgroups) == [name for name in TYPES if name in result.subgroups]
    assert sum(result.groups.values(), Count()) == sum(result.subgroups.values(), Count()) == result.main.count


def test_types_of_others_come_after_the_benchmark_s_own() -> None:
    mine = OcrData((question(9, "x", ("x",), "mine"), *DATA.questions), DATA.files)
    result = evaluate_ocr(Parrot(), mine, "ocrbench", how())
    assert (result.name, list(result.groups)[-1], list(result.subgroups)[-1]) == ("custom-ocr", "mine", "mine")


def test_predictions_hold_what_scoring_needs() -> None:
    first = evaluate_ocr(Parrot(), DATA, "ocrbench", how(suffix="?")).predictions[0]
    assert first.correct is True
    assert dict(first.facts) == {
        "dataset": "HME100k",
        "question_type": "Handwritten Mathematical Expression Recognition",
        "question": "a + b",
        "answers": ["a+b"],
        "prediction": "a + b?",
        "exact": False,
    }


def test_a_question_is_known_by_what_it_asks() -> None:
    def ids(data: OcrData) -> list[str]:
        return [prediction.id for prediction in evaluate_ocr(Parrot(), data, "ocrbench", how()).predictions]

    found = ids(DATA)
    assert len(set(found)) == 5
    assert ids(replace(DATA, questions=DATA.questions[::-1])) == found[::-1]
    twice = ids(replace(DATA, questions=DATA.questions[:1] * 3))
    assert twice[0] == found[0]
    assert len(set(twice)) == 3


def test_batches_limit_and_progress() -> None:
    parrot, seen = Parrot(), []
    result = evaluate_ocr(
        parrot, DATA, "ocrbench", how(limit=3), batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    assert parrot.batches == [2, 1]
    assert seen == [(2, 3), (3, 3)]
    assert result.main.count == Count(3, 3)
    assert result.warnings[-1] == "only the first 3 of the file's 5 questions"
    assert result.warnings[0].startswith("not OCRBench's full set: 3 of 1000 questions (")


def test_protocol_names_what_kits_differ_in() -> None:
    protocol = evaluate_ocr(Parrot(), DATA, "ocrbench", how()).protocol
    assert {key: protocol[key] for key in ("suffix", "max_new_tokens", "decoding", "fold_fullwidth", "image", "limit")} == {
        "suffix": "",
        "max_new_tokens": 128,
        "decoding": "greedy",
        "fold_fullwidth": False,
        "image": {"size": [4, 2]},
        "limit": None,
    }
    other = OcrData((question(1, "another", ("x",), "Doc-oriented VQA"),), DATA.files)
    assert evaluate_ocr(Parrot(), other, "ocrbench", how()).protocol["prompt_sha256"] != protocol["prompt_sha256"]
    assert evaluate_ocr(Parrot(), DATA, "ocrbench", how(suffix="\n")).protocol["prompt_sha256"] != protocol["prompt_sha256"]


def test_suffix_token_limit_and_folding_are_used_and_recorded() -> None:
    parrot = Parrot()
    fullwidth, empty = question(1, "Ｃ", ("c",), "Doc-oriented VQA"), question(2, "", ("answer",), "Doc-oriented VQA")
    data = OcrData((fullwidth, empty), (Path("f"),))
    result = evaluate_ocr(parrot, data, "ocrbench", how(suffix=" Answer.", max_new_tokens=7, fold_fullwidth=True))
    assert [prediction.correct for prediction in result.predictions] == [True, True]
    assert parrot.tokens == {7}
    recorded = [result.protocol[key] for key in ("suffix", "max_new_tokens", "fold_fullwidth")]
    assert recorded == [" Answer.", 7, True]
    bare = evaluate_ocr(parrot, data, "ocrbench", how())
    assert [prediction.correct for prediction in bare.predictions] == [False, False]


def full_set() -> list[dict[str, Any]]:
    """As many tiny questions of each type as OCRBench has, mixed; the parrot knows every third."""
    image = {"bytes": png(size=(1, 1)), "path": None}
    types = [name for name, (_, count) in TYPES.items() for _ in range(count)]
    mixed = [types[index * 7 % 1000] for index in range(1000)]
    return [
        row(question_type=name, question=f"q{index}", answer=[f"q{index}" if index % 3 == 0 else "no"], image=image)
        for index, name in enumerate(mixed)
    ]


def test_the_full_set_is_counted_out_of_1000_and_draws_no_warning(tmp_path: Path) -> None:
    rows = full_set()
    result = evaluate_ocr(Parrot(), load_ocr(write(tmp_path / "full.parquet", rows)), "ocrbench", how(), 64)
    right = {name: sum(one["question_type"] == name and one["answer"] != ["no"] for one in rows) for name in TYPES}
    recognised = sum(count for name, count in right.items() if TYPES[name][0] == "Text Recognition")
    assert (result.name, result.warnings) == ("ocrbench", ())
    assert json.loads(json.dumps(result.to_dict()))["total"] == 1000
    lines = shown(result)
    assert lines[2] == "ocrbench acc 0.334 0.015 334/1000"
    groups = [line for line in lines[4:] if "/" in line]
    expected = [
        ("Text Recognition", recognised, 300),
        *((name, right[name], TYPES[name][1]) for name in TYPES if TYPES[name][0] != "Text Recognition"),
    ]
    assert len(groups) == 5
    for line, (name, correct, total) in zip(groups, expected, strict=True):
        assert line.startswith(name)
        assert line.endswith(f" {correct}/{total}")
    assert sum("/50" in line for line in shown(result, details=True)) == 6


def test_a_damaged_image_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    parrot = Parrot()
    file = write(tmp_path / "rows.parquet", [row(), row(), row(image={"bytes": png()[:40], "path": None})])
    with pytest.raises(UserError) as caught:
        evaluate_ocr(parrot, load_ocr(file), "ocrbench", how(), batch_size=1)
    assert caught.value.message.startswith(f"{file}: row 3: image cannot be read (")
    assert parrot.batches == []
    assert evaluate_ocr(parrot, load_ocr(file), "ocrbench", how(limit=2)).main.count == Count(0, 2)


def test_a_question_that_the_model_refuses_is_found_before_anything_is_asked() -> None:
    class Strict(Parrot):
        def check(self, name: str, image: Image.Image, question: str, max_new_tokens: int) -> None:
            if (question, max_new_tokens) == ("7!", 5):
                raise UserError(f"{name}: too long", "ask less")

    strict = Strict()
    with pytest.raises(UserError, match=r"^f: row 4: too long\n  help: ask less$"):
        evaluate_ocr(strict, DATA, "ocrbench", how(suffix="!", max_new_tokens=5), batch_size=2)
    assert strict.batches == []
    evaluate_ocr(strict, DATA, "ocrbench", how(suffix="!", max_new_tokens=5, limit=3))


def test_the_hash_of_the_data_is_of_questions_and_pixels_wherever_they_lie(tmp_path: Path) -> None:
    def hashed(name: str, image: Any, **change: Any) -> Any:
        return evaluate_ocr(Parrot(), load_ocr(write(tmp_path / name, [row(image=image, **change)])), "ocrbench", how()).hashes

    (tmp_path / "a.png").write_bytes(png())
    beside = hashed("rows.jsonl", "a.png")
    assert beside["data"]["questions"] == 1
    assert hashed("rows.parquet", {"bytes": png(), "path": None}) == beside
    assert hashed("other.jsonl", "a.png", answer=["another"]) != beside
    (tmp_path / "a.png").write_bytes(png(size=(5, 2)))
    assert hashed("rows.jsonl", "a.png") != beside, "the same file of questions, about another image"


def test_only_one_batch_of_images_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = most = 0
    decode = OcrQuestion.decode

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def counted(self: OcrQuestion) -> Image.Image:
        nonlocal alive, most
        image = decode(self)
        weakref.finalize(image, gone)
        alive += 1
        most = max(most, alive)
        return image

    data = load_ocr(write(tmp_path / "full.parquet", full_set()[:40]))
    monkeypatch.setattr(OcrQuestion, "decode", counted)
    evaluate_ocr(Parrot(), data, "ocrbench", how(), batch_size=4)
    assert most == 2 * 4  # those of the last batch are there while the next are decoded

"""Examples before multiple-choice questions: where they come from, and what is said when they cannot (the harness itself:
tests/eval/harness/test_choices)."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.multiple_choice import evaluate_choices, load_choices, pair
from smoe_cli.eval.text.multiple_choice_data import Question
from smoe_cli.eval.text.multiple_choice_examples import draw
from smoe_cli.recipe.measures import ArcEasy
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_arc


def task(folder: Path, **words: object) -> ArcEasy:
    return ArcEasy.model_validate({"task": "arc-easy", "data": str(folder), **words})


def test_examples_stand_before_the_question_with_their_answers() -> None:
    shot = Question("s", "What burns?", ("ice", "wood"), 1)
    asked = pair("Question: {question}\nAnswer:", Question("q", "What melts?", ("ice", "wood"), 0), "ice", [shot])
    assert asked == ("Question: What burns?\nAnswer: wood\n\nQuestion: What melts?\nAnswer:", " ice")


def test_a_question_is_never_its_own_example() -> None:
    questions = [Question(str(number), "?", ("a", "b"), 0) for number in range(4)]
    for question, examples in zip(questions, draw(questions, questions, 3, "train"), strict=True):
        assert {one.id for one in (question, *examples)} == {"0", "1", "2", "3"}


def test_the_protocol_says_what_was_drawn_and_hashes_it(tmp_path: Path) -> None:
    folder = write_arc(tmp_path, 3)
    write_arc(folder, 9, "train")
    found = []
    for shots in (0, 1, 2):
        own = task(folder, shots=shots)
        found.append(evaluate_choices(BatchedScorer(tiny_qwen2_moe(), 4096), byte_tokenizer(), own, load_choices(own)).protocol)
    assert [one["shots"] for one in found] == [0, 1, 2]
    assert [(one.get("examples"), one.get("seed")) for one in found] == [(None, None), *[("split `train`", 1234)] * 2]
    assert len({one["prompt_sha256"] for one in found}) == 3


def test_no_examples_to_draw_from(tmp_path: Path) -> None:
    folder = write_arc(tmp_path, 3)
    with pytest.raises(UserError, match=r"ARC-Easy: no `train` split, from which 2 shot\(s\) are drawn") as caught:
        load_choices(task(folder, shots=2))
    assert caught.value.help == "pass --shots 0, or a local copy of the hub's `allenai/ai2_arc`, which has it"
    file = folder / "ARC-Easy" / "test.jsonl"
    with pytest.raises(UserError, match="of a folder, and this is a file"):
        load_choices(task(file, shots=2))
    write_arc(folder, 2, "train")
    assert len(load_choices(task(folder, shots=2)).examples) == 2
    with pytest.raises(UserError, match=r"split `train` has 2 question\(s\), too few for 3 shot\(s\)") as caught:
        load_choices(task(folder, shots=3))
    assert caught.value.help == "pass --shots 2"
    with pytest.raises(UserError, match="too few for 2") as caught:
        load_choices(task(folder, shots=2, split="train"))
    assert caught.value.help == "pass --shots 1"

"""ARC-Easy: reader, prompt, scoring, and the harness's rules (the harness itself: test_harness)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.arc import arc_prompt, evaluate_arc
from smoe_cli.eval.arc_data import ArcData, ArcQuestion, load_arc
from smoe_cli.eval.likelihood import BatchedScorer
from smoe_cli.eval.mmlu import encode
from smoe_cli.eval.protocols import Request
from smoe_cli.eval.results import Count

from .test_mmlu import brute_force
from .tiny import arc_rows, byte_tokenizer, tiny_qwen2_moe, write_arc


def test_prompt_is_the_harness_s() -> None:
    question = ArcQuestion("q", " What melts? ", ("ice", "stone"), 0)
    assert arc_prompt(question) == "Question:  What melts? \nAnswer:"


def test_equals_one_forward_pass_for_each_choice(tmp_path: Path) -> None:
    data = load_arc(write_arc(tmp_path / "arc", 6))
    tokenizer, model = byte_tokenizer(), tiny_qwen2_moe()
    result = evaluate_arc(BatchedScorer(model, 4096, 4), tokenizer, data)
    right = normalised = 0
    for question, asked in zip(data.questions, result.asked, strict=True):
        pairs = [encode(tokenizer, arc_prompt(question), f" {choice}") for choice in question.choices]
        scores = [brute_force(model, list(context), list(continuation), 4096) for context, continuation in pairs]
        assert asked.log_likelihoods == pytest.approx(scores, abs=1e-4)
        assert (asked.id, asked.answer) == (question.id, question.answer)
        right += scores.index(max(scores)) == question.answer
        by_length = [score / len(choice) for score, choice in zip(scores, question.choices, strict=True)]
        normalised += by_length.index(max(by_length)) == question.answer
    assert (result.total, result.normalised) == (Count(right, 6), Count(normalised, 6))


class Fixed:
    """A scorer that gives the requests, in turn, these scores."""

    def __init__(self, scores: Sequence[float]):
        self.scores = iter(scores)

    def log_likelihoods(self, requests: Sequence[Request]) -> list[float]:
        return [next(self.scores) for _ in requests]


def test_the_length_that_scores_are_divided_by_counts_characters_not_bytes() -> None:
    """Harness 0.4.13: `completion_len = len(choice)`. The first choice, of two bytes a letter, is the best by bytes alone."""
    data = ArcData((ArcQuestion("q", "?", ("ääää", "abcdef"), 1),), ())
    result = evaluate_arc(Fixed([-5.0, -6.0]), byte_tokenizer(), data)
    assert (result.total.correct, result.normalised) == (0, Count(1, 1))


def test_limit_and_progress(tmp_path: Path) -> None:
    data = load_arc(write_arc(tmp_path / "arc", 6))
    seen: list[tuple[int, int]] = []
    scores = [0.0] * sum(len(question.choices) for question in data.questions)
    result = evaluate_arc(Fixed(scores), byte_tokenizer(), data, 2, lambda done, total: seen.append((done, total)))
    assert (result.total.total, seen) == (2, [(2, 2)])
    assert result.warnings == ("only the first 2 question(s)",)
    assert [asked.chosen for asked in result.asked] == [0, 0]  # ties go to the first


@pytest.mark.parametrize("layout", ["hub", "subset", "parquet file", "jsonl file", "arrow"])
def test_layouts(layout: str, tmp_path: Path) -> None:
    rows = arc_rows(5)
    folder = tmp_path / "ARC-Easy"
    folder.mkdir()
    table = pa.Table.from_pylist(rows)
    path: Path = tmp_path
    if layout in ("hub", "subset", "parquet file"):
        pq.write_table(table, folder / "test-00000-of-00001.parquet")
        path = {"hub": tmp_path, "subset": folder, "parquet file": folder / "test-00000-of-00001.parquet"}[layout]
    elif layout == "jsonl file":
        path = tmp_path / "mine.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        (folder / "test").mkdir()
        with (
            pa.OSFile(str(folder / "test" / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    data = load_arc(path)
    assert [(q.id, q.question, list(q.choices), q.answer) for q in data.questions] == [
        (r["id"], r["question"], r["choices"]["text"], r["choices"]["label"].index(r["answerKey"])) for r in rows
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answerKey": "E"}, "row 2: `answerKey` is 'E', the labels are A, B, C"),
        ({"choices": ["a", "b"]}, "row 2: `choices` is not a mapping of `text` and `label`"),
        ({"choices": {"text": ["a"], "label": ["A"]}}, "row 2: `choices` has 1 texts and 1 labels"),
        ({"choices": {"text": ["a", "b"], "label": ["A"]}}, "row 2: `choices` has 2 texts and 1 labels"),
        ({"choices": {"text": ["a", 3], "label": ["A", "B"]}}, "row 2: `choices.text` is not a list of texts"),
        ({"choices": {"text": ["a", ""], "label": ["A", "B"]}, "answerKey": "A"}, "row 2: a choice is empty"),
        ({"question": None}, "row 2: `question` is not a text"),
    ],
)
def test_a_bad_row_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    rows = arc_rows(3)
    rows[1] |= change
    file = tmp_path / "bad.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_arc(file)
    assert caught.value.message == f"{file}: {message}"


def test_splits(tmp_path: Path) -> None:
    folder = write_arc(tmp_path / "arc", 4, "validation")
    with pytest.raises(UserError) as caught:
        load_arc(folder)
    assert "no `test` split" in caught.value.message
    assert "validation" in str(caught.value.help)
    data = load_arc(folder, "validation")
    assert len(data.questions) == 4
    with pytest.raises(UserError, match="this is a file"):
        load_arc(data.files[0], "validation")
    with pytest.raises(UserError, match="no such file or folder"):
        load_arc(tmp_path / "nowhere")

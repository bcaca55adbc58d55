from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import Qwen2MoeForCausalLM

from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.text import likelihood
from smoe_cli.eval.text.likelihood import BatchedScorer
from tests.eval.tiny import Watch, tiny_qwen2_moe


def requests(count: int, longest: int = 30) -> list[tuple[list[int], list[int]]]:
    rng = random.Random(0)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(261) for _ in range(rng.randint(low, high))]

    return [(ids(1, longest), ids(1, 5)) for _ in range(count)]


def test_batches_and_order_do_not_matter() -> None:
    model, asked = tiny_qwen2_moe(), requests(13)
    alone = BatchedScorer(model, 4096, 1).log_likelihoods(asked)
    assert BatchedScorer(model, 4096, 5).log_likelihoods(asked) == pytest.approx(alone, abs=1e-5)
    assert BatchedScorer(model, 4096, 5).log_likelihoods(asked[::-1]) == pytest.approx(alone[::-1], abs=1e-5)


def test_progress_counts_requests() -> None:
    told: list[int] = []
    asked = [(context, end) for context, _ in requests(5) for end in ([5], [6], [7])]
    BatchedScorer(tiny_qwen2_moe(), 4096, 2).log_likelihoods(asked, told.append)
    assert told == [6, 12, 15]


def test_probabilities_of_all_continuations_sum_to_one() -> None:
    scores = BatchedScorer(tiny_qwen2_moe(), 4096, 8).log_likelihoods([([1, 2, 3], [token]) for token in range(261)])
    assert torch.tensor(scores).exp().sum() == pytest.approx(1, abs=1e-5)


def test_chain_rule() -> None:
    scorer = BatchedScorer(tiny_qwen2_moe(), 4096, 8)
    both, first, second = scorer.log_likelihoods([([7], [8, 9]), ([7], [8]), ([7, 8], [9])])
    assert both == pytest.approx(first + second, abs=1e-5)


def test_requests_that_read_the_same_tokens_share_a_forward_pass() -> None:
    model = tiny_qwen2_moe()
    watch = Watch(model)
    BatchedScorer(model, 4096, 8).log_likelihoods([([1, 2, 3, 4], [last]) for last in (5, 6, 7, 8)])
    assert (watch.read, watch.predicted) == ([(1, 4)], [(1, 1)])  # and the head runs where it is needed only


@pytest.mark.parametrize(("logits", "softmax"), [(261 * 40, 261 * 3), (1, 1)])
def test_large_logits_make_smaller_batches_and_the_same_scores(
    monkeypatch: pytest.MonkeyPatch, logits: int, softmax: int
) -> None:
    model, asked = tiny_qwen2_moe(), [([1, 2, *range(10, 10 + n)], list(range(30, 40))) for n in range(12)]
    expected = BatchedScorer(model, 4096, 6).log_likelihoods(asked)
    watch = Watch(model)
    monkeypatch.setattr(likelihood, "LOGITS", logits)
    monkeypatch.setattr(likelihood, "SOFTMAX", softmax)
    assert BatchedScorer(model, 4096, 6).log_likelihoods(asked) == pytest.approx(expected, abs=1e-5)
    assert len(watch.read) > 2
    assert all(rows == 1 or rows * positions * 261 <= logits for rows, positions in watch.predicted)


def test_continuations_of_different_lengths_after_one_context() -> None:
    model, context = tiny_qwen2_moe(), [3, 4, 5]
    together = BatchedScorer(model, 4096, 8).log_likelihoods(
        [(context, [6]), (context, [6, 7]), (context, [6, 7, 8]), ([3], [4, 5, 6])]
    )
    alone = [BatchedScorer(model, 4096, 1).log_likelihoods([(context, [6, 7, 8][:n])])[0] for n in (1, 2, 3)]
    assert together[:3] == pytest.approx(alone, abs=1e-5)
    assert together[3] != together[0]


def test_the_cut_is_on_the_left() -> None:
    model = tiny_qwen2_moe()
    context, continuation = list(range(50)), [60, 61]
    scorer = BatchedScorer(model, 20, 4)
    cut = scorer.log_likelihoods([(context, continuation)])
    assert scorer.truncated == 1
    # 20 tokens are read: the last 19 of the context and the first of the continuation
    assert cut == BatchedScorer(model, 4096, 4).log_likelihoods([(context[-19:], continuation)])
    scorer.log_likelihoods([(context[-19:], continuation)])  # just fits
    assert scorer.truncated == 1


@pytest.mark.parametrize(("context", "continuation"), [([], [1]), ([1], []), ([1], [1] * 21)])
def test_what_cannot_be_scored(context: list[int], continuation: list[int]) -> None:
    with pytest.raises(UserError, match="cannot be scored"):
        BatchedScorer(tiny_qwen2_moe(), 20, 4).log_likelihoods([(context, continuation)])


class AllLogits(Qwen2MoeForCausalLM):
    """A model that knows no `logits_to_keep`, as some in transformers do not."""

    def forward(self, logits_to_keep: object = None, **given: Any) -> Any:
        return super().forward(**given)


def test_a_model_that_gives_the_logits_of_all_positions() -> None:
    model = tiny_qwen2_moe()
    model.__class__ = AllLogits
    watch, asked = Watch(model), requests(6)
    expected = [plain(model, context, continuation) for context, continuation in asked]
    assert BatchedScorer(model, 4096, 4).log_likelihoods(asked) == pytest.approx(expected, abs=1e-5)
    assert watch.predicted == watch.read


def plain(model: torch.nn.Module, context: list[int], continuation: list[int]) -> float:
    """log p(continuation | context) from one forward pass."""
    with torch.inference_mode():
        rows = torch.log_softmax(model(input_ids=torch.tensor([context + continuation])).logits[0].float(), -1)
    return sum(float(rows[len(context) - 1 + offset, token]) for offset, token in enumerate(continuation))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_no_answer(value: float) -> None:
    model = tiny_qwen2_moe()
    with torch.no_grad():
        model.lm_head.weight[200] = value
    with pytest.raises(Failure, match="not finite"):
        BatchedScorer(model, 4096, 4).log_likelihoods(requests(3))

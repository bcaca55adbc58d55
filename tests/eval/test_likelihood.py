from __future__ import annotations

import random

import pytest
import torch

from smoe_cli.errors import UserError
from smoe_cli.eval.likelihood import BatchedScorer

from .tiny import tiny_qwen2_moe


class Counting(torch.nn.Module):
    """Counts forward passes and the rows and positions that the head ran on."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model, self.rows, self.positions = model, 0, 0

    def forward(self, **arguments: torch.Tensor) -> object:
        output = self.model(**arguments)
        self.rows += output.logits.shape[0]
        self.positions += output.logits.shape[1]
        return output


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


def test_probabilities_of_all_continuations_sum_to_one() -> None:
    scores = BatchedScorer(tiny_qwen2_moe(), 4096, 8).log_likelihoods([([1, 2, 3], [token]) for token in range(261)])
    assert torch.tensor(scores).exp().sum() == pytest.approx(1, abs=1e-5)


def test_chain_rule() -> None:
    scorer = BatchedScorer(tiny_qwen2_moe(), 4096, 8)
    both, first, second = scorer.log_likelihoods([([7], [8, 9]), ([7], [8]), ([7, 8], [9])])
    assert both == pytest.approx(first + second, abs=1e-5)


def test_requests_that_read_the_same_tokens_share_a_forward_pass() -> None:
    model = Counting(tiny_qwen2_moe())
    BatchedScorer(model, 4096, 8).log_likelihoods([([1, 2, 3, 4], [last]) for last in (5, 6, 7, 8)])
    assert (model.rows, model.positions) == (1, 1)  # and the head runs where it is needed only


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

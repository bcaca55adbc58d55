"""Sliced routers, where the family's code does not fit a slice: expert-group limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from smoe_cli.families import anatomy_of
from smoe_cli.model.routers import probabilities, slice_router

ANATOMY = anatomy_of("deepseek_v3")


def router(parts: int = 4, open_parts: int = 2, top_k: int = 2, renormalise: bool = True) -> DeepseekV3TopkRouter:
    """12 experts in `parts` parts, of which a token may use `open_parts`."""
    config = DeepseekV3Config(
        hidden_size=6,
        n_routed_experts=12,
        num_experts_per_tok=top_k,
        n_group=parts,
        topk_group=open_parts,
        routed_scaling_factor=1.5,
        norm_topk_prob=renormalise,
    )
    torch.manual_seed(0)
    built = DeepseekV3TopkRouter(config)
    torch.nn.init.normal_(built.weight)
    torch.nn.init.normal_(built.e_score_correction_bias, std=0.3)
    return built


@torch.no_grad()
def slow(full: DeepseekV3TopkRouter, experts: list[int], x_D: Tensor) -> dict[int, float]:
    """{place in the group: weight} for one token, by the words of the rule."""
    size = 12 // full.num_group
    score = {e: float(torch.sigmoid(full.weight[e] @ x_D)) for e in set(experts)}
    choice = {place: score[e] + float(full.e_score_correction_bias[e]) for place, e in enumerate(experts)}
    parts: dict[int, list[int]] = {}
    for place, expert in enumerate(experts):
        parts.setdefault(expert // size, []).append(place)
    best = {part: sum(sorted((choice[p] for p in places), reverse=True)[:2]) for part, places in parts.items()}
    chosen = sorted(best, key=lambda part: -best[part])[: full.topk_group]
    there = sorted((p for part in chosen for p in parts[part]), key=lambda p: -choice[p])[: full.top_k]
    total = sum(score[experts[p]] for p in there) + 1e-20 if full.norm_topk_prob else 1.0
    return {p: score[experts[p]] / total * full.routed_scaling_factor for p in there}


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize(
    ("experts", "parts"),
    [
        ([0, 1, 2, 3, 4, 5], 4),  # whole parts, others missing
        ([0, 3, 4, 5, 8, 9, 11], 4),  # parts with one, two and two of their experts, one with none
        ([2, 5, 6, 7, 8, 10], 4),
        ([0, 2, 4, 5, 9], 1),  # no limit: the family's own code
        ([7, 8], 6),
    ],
)
def test_a_slice_follows_the_rule_on_what_is_there(experts: list[int], parts: int, renormalise: bool) -> None:
    full = router(parts, min(2, parts), renormalise=renormalise)
    sliced = slice_router(full, experts, 2, ANATOMY)
    assert isinstance(sliced, DeepseekV3TopkRouter)
    x = torch.randn(200, 6)
    _, weights, ids = sliced(x)
    for row, weight, index in zip(x, weights, ids, strict=True):
        expected = slow(full, experts, row)
        got = dict(zip(index.tolist(), weight.tolist(), strict=True))
        assert got == pytest.approx(expected, rel=1e-5)


def test_twins_of_a_mounted_group_share_a_part() -> None:
    full, experts = router(), [0, 1, 2, 6, 0, 1, 2, 6]
    sliced = slice_router(full, experts, 3, ANATOMY)
    x = torch.randn(50, 6)
    _, weights, ids = sliced(x)
    full.top_k = 3
    for row, weight, index in zip(x, weights, ids, strict=True):
        expected, got = slow(full, experts, row), {}
        for place, value in zip(index.tolist(), weight.tolist(), strict=True):
            got.setdefault(experts[place], []).append(pytest.approx(value, rel=1e-5))
        want: dict[int, list[float]] = {}
        for place, value in expected.items():
            want.setdefault(experts[place], []).append(value)
        assert want == got


def test_with_all_experts_it_is_the_familys_own_code() -> None:
    full = router()
    sliced = slice_router(full, range(12), 2, ANATOMY)
    assert type(sliced) is type(full)
    x = torch.randn(50, 6)
    assert all(torch.equal(a, b) for a, b in zip(sliced(x), full(x), strict=True))


def test_a_group_of_one_expert() -> None:
    """The family's code adds up two scores a part, and would fail."""
    sliced = slice_router(router(1, 1), [5], 1, ANATOMY)
    _, weights, ids = sliced(torch.randn(4, 6))
    assert torch.equal(ids, torch.zeros(4, 1, dtype=torch.long))
    torch.testing.assert_close(weights, torch.full((4, 1), 1.5))


def test_the_original_is_left_alone() -> None:
    full = router()
    before = {name: tensor.clone() for name, tensor in full.state_dict().items()}
    sliced = slice_router(full, [0, 1, 2], 1, ANATOMY)
    sliced.weight.data.zero_()
    assert (full.top_k, full.num_experts) == (2, 12)
    assert sliced.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in full.state_dict().items())


def test_probabilities_of_a_token_add_up_to_one() -> None:
    logits = torch.randn(20, 7)
    torch.testing.assert_close(probabilities(logits, "softmax"), logits.softmax(-1))
    shares = probabilities(logits, "sigmoid")
    torch.testing.assert_close(shares.sum(-1), torch.ones(20))
    torch.testing.assert_close(shares[:, 0] / shares[:, 1], logits[:, 0].sigmoid() / logits[:, 1].sigmoid())

"""The loss and its denominators against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from smoe_cli.data.loader import counts_of
from smoe_cli.model.build import build_model
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.recipe.models import LossWeights
from smoe_cli.train.losses import Balance, Denominators, denominators, micro_loss
from smoe_cli.train.metrics import CAPACITY_FACTOR, utilisation_and_capacity
from tests.helpers import random_batch, tiny

CPU = torch.device("cpu")


def count(batches: list[dict[str, torch.Tensor]], plan: Plan) -> Denominators:
    return denominators(counts_of(batches), plan, CPU, lambda x: x)


def test_denominators_count_valid_tokens_only() -> None:
    recipe = tiny()
    plan = compile_plan(recipe)
    batches = [random_batch(recipe, seed=s) for s in (0, 1)]
    got = count(batches, plan)
    joined = {k: torch.cat([b[k] for b in batches]) for k in batches[0]}
    valid = joined["document"] >= 0
    assert got.text == float((joined["targets"] >= 0).sum())
    assert got.flow == joined["noise"].numel()
    assert got.modalities == tuple(float((valid & (joined["modality"] == m)).sum()) for m in range(3))
    assert got.groups == (got.modalities[0] + got.modalities[1], got.modalities[2])


def test_balance_equals_the_formula_and_is_one_when_even() -> None:
    """E_g · Σ f_i · p_i, mean over layers, summed over groups; written out with loops."""
    plan = compile_plan(tiny())
    balance = Balance(plan, CPU)
    counts = torch.randint(0, 20, (2, 3, 6), generator=torch.Generator().manual_seed(0))
    counts[:, 2, :4] = 0
    counts[:, :2, 4:] = 0
    sums = [torch.rand(2, 4), torch.rand(2, 2)]
    over = count([random_batch(tiny())], plan)
    expected = 0.0
    for g, (low, high) in enumerate(((0, 4), (4, 6))):
        for layer in range(2):
            load = counts[layer].sum(0)[low:high].double()
            for i in range(high - low):
                f, p = load[i] / load.sum(), sums[g][layer, i] / over.groups[g]
                expected += (high - low) * float(f * p) / 2
    assert float(balance.update(counts, sums, over)) == pytest.approx(expected, rel=1e-5)

    even = torch.zeros(2, 3, 6, dtype=torch.long)
    even[:, 0, :4] = even[:, 2, 4:] = 7
    uniform = [torch.full((2, n), over.groups[g] / n) for g, n in enumerate((4, 2))]
    assert float(balance.update(even, uniform, over)) == pytest.approx(2.0)


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_micro_batches_add_up_to_the_whole(pieces: int) -> None:
    """Loss and gradients of four rows, in one, two or four micro-batches."""
    recipe = tiny()
    plan = compile_plan(recipe)
    rows = [random_batch(recipe, rows=1, seed=s) for s in range(4)]

    def gradients(n: int) -> tuple[float, dict[str, torch.Tensor]]:
        model, balance = build_model(recipe, plan), Balance(plan, CPU)
        balance.fraction_LE = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
        batches = [{k: torch.cat([r[k] for r in rows[i : i + 4 // n]]) for k in rows[0]} for i in range(0, 4, 4 // n)]
        over, total = count(batches, plan), 0.0
        for batch in batches:
            loss = micro_loss(model(batch), LossWeights(balance=0.5), over, balance)
            loss.backward()
            total += loss.item()
        return total, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}

    whole, expected = gradients(1)
    total, got = gradients(pieces)
    assert total == pytest.approx(whole, rel=1e-5)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-6)


def test_a_batch_without_targets_or_images_has_a_finite_loss() -> None:
    recipe = tiny()
    plan = compile_plan(recipe)
    batch = random_batch(recipe)
    batch["targets"].fill_(-100)
    loss = micro_loss(build_model(recipe, plan)(batch), LossWeights(), count([batch], plan), Balance(plan, CPU))
    loss.backward()
    assert math.isfinite(loss.item())


def test_utilisation_and_capacity_by_hand() -> None:
    plan = compile_plan(tiny())
    counts = torch.zeros(2, 3, 6, dtype=torch.long)
    counts[:, 0, :4] = torch.tensor([40, 0, 0, 0])  # all text on one expert of four
    counts[:, 2, 4:] = torch.tensor([30, 10])
    used, capacity = utilisation_and_capacity(counts, plan)
    assert used.tolist()[0] == 0.25
    assert math.isnan(used.tolist()[1])
    assert used.tolist()[2] == 1.0
    assert capacity.tolist()[0] == pytest.approx(CAPACITY_FACTOR / 4)
    assert capacity.tolist()[2] == pytest.approx((20 * CAPACITY_FACTOR + 10) / 40)

"""Promises 1 and 2 for every family, on text: one group is the plain transformers model, bit for bit; a split is a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from smoe_cli.families import anatomy_of
from smoe_cli.model.routing import Routing
from smoe_cli.model.weights import saved_tensors
from smoe_cli.plan import FIXED, Plan
from tests.families.tiny import FAMILIES, write_checkpoint
from tests.model.conftest import Checkpoints
from tests.model.pretrained import decoder, gradient_pairs, plain, pretrained, split, tokens

ERNIE = "ernie4_5_vl_moe"
POOLS = [
    {"name": "text", "modalities": ["text"], "experts": 8, "select": list(range(8))},
    {"name": "sight", "modalities": ["vit", "vae"], "experts": 8},
]
"""ERNIE as it is: its two pools of experts, one for each modality."""


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kernel", "attention"), [("grouped_mm", "sdpa"), ("eager", "eager")])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_group_equals_the_plain_model_bit_for_bit(
    checkpoint: Checkpoints, family: str, kernel: str, attention: str, training: bool
) -> None:
    """Logits, and the gradient of every parameter, against transformers' own loader and code."""
    folder = checkpoint(family)
    groups = POOLS if family == ERNIE else None
    recipe = pretrained(folder, groups, **{"training.experts": kernel, "training.attention": attention})
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    ids = tokens()
    expected, got = (m.train(training)(input_ids=ids, labels=ids) for m in (reference, model))
    assert torch.equal(expected.logits, got.logits)
    expected.loss.backward()
    got.loss.backward()
    pairs = list(gradient_pairs(model, plan, reference))
    assert len(pairs) > 10
    for name, ours, theirs in pairs:
        assert torch.equal(ours, theirs), name
    assert {t.name for t in plan.tensors} == {f"backbone.{n}" for n in saved_tensors(model)}


@pytest.mark.parametrize("family", ["qwen2_moe", "qwen3_moe"])
def test_layers_without_experts_may_lie_anywhere(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(family, tmp_path / family, mlp_only_layers=[1])
    recipe = pretrained(folder)
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    assert plan.moe_layers == (0, 2)
    ids = tokens()
    routing = Routing.of(torch.zeros(51, dtype=torch.long), (0, 0, 0), 1, record=True)
    assert torch.equal(reference(input_ids=ids).logits, model(input_ids=ids, routing=routing).logits)
    assert sorted(routing.layers) == [0, 2]


@pytest.mark.parametrize("family", ["deepseek_v3", "hunyuan_v1_moe", "olmoe"])
def test_activation_checkpointing_changes_nothing(checkpoint: Checkpoints, family: str) -> None:
    folder = checkpoint(family)
    model, plan = decoder(pretrained(folder, split(folder, [0, 3, 4, 5])))
    ids, modality = tokens(), torch.randint(0, 3, (51,), generator=torch.Generator().manual_seed(1))
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            # the method's name changed within transformers 5
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model.zero_grad()
        routing = Routing.of(modality, (0, 0, 1), 2, record=True)
        output = model(input_ids=ids, labels=ids, routing=routing, use_cache=False)
        balance = sum((s * torch.arange(len(s))).sum() for layer in routing.layers.values() for s in layer.prob_sums)
        (output.loss + 0.01 * balance).backward()
        assert sorted(routing.layers) == list(plan.moe_layers)
        counts = torch.stack([layer.counts_ME for layer in routing.layers.values()])
        found.append((counts, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (counts, expected), (again, got) = found
    assert torch.equal(counts, again)
    assert int(counts.sum()) == 51 * plan.top_k * len(plan.moe_layers)
    assert expected.keys() == got.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kernel", ["grouped_mm", "eager"])
def test_ernies_pools_serve_their_modalities_bit_for_bit(checkpoint: Checkpoints, kernel: str) -> None:
    """Text and image tokens in one batch: two pools whose experts have different widths."""
    folder = checkpoint(ERNIE)
    recipe = pretrained(folder, POOLS, **{"training.experts": kernel})
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    ids, sees = tokens(), torch.rand(3, 17, generator=torch.Generator().manual_seed(1)) < 0.4
    expected = reference(input_ids=ids, labels=ids, moe_mm_token_type_ids=sees.long())
    got = model(input_ids=ids, labels=ids, routing=Routing.of(sees.long().flatten(), (0, 1, 1), 2))
    assert torch.equal(expected.logits, got.logits)
    expected.loss.backward()
    got.loss.backward()
    for name, ours, theirs in gradient_pairs(model, plan, reference):
        assert torch.equal(ours, theirs), name


class _MaskLinear(TorchFunctionMode):
    """Within this context the result of every `F.linear` is −inf where the mask is False."""

    def __init__(self, allowed_TE: Tensor):
        super().__init__()
        self.allowed_TE = allowed_TE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.masked_fill(~self.allowed_TE, float("-inf")) if func is F.linear else result


def mask_routers(model: nn.Module, plan: Plan, group_T: Tensor) -> None:
    """Every router of a plain model runs its own code with −inf on logits and selection biases of experts outside the token's
    group. group_T: of every token."""
    anatomy = anatomy_of(model.config.model_type)
    layers = model.get_submodule(anatomy.decoder).layers
    for number, index in enumerate(plan.moe_layers):
        router = getattr(getattr(layers[index], anatomy.block), anatomy.router)
        allowed_GE = torch.zeros(len(plan.groups), router.num_experts, dtype=torch.bool)
        for row, group in zip(allowed_GE, plan.groups, strict=True):
            row[list(group.experts[number])] = True
        router.forward = _masked(router, allowed_GE[group_T])


def _masked(router: nn.Module, allowed_TE: Tensor) -> Any:
    own = router.forward
    bias = getattr(router, "e_score_correction_bias", None)

    def forward(x: Tensor) -> Any:
        with _MaskLinear(allowed_TE):
            if bias is not None:
                router.e_score_correction_bias = torch.where(allowed_TE, bias, -torch.inf)
            return own(x)

    return forward


@pytest.mark.parametrize("kernel", ["grouped_mm", "eager"])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != ERNIE])
def test_a_split_equals_masking_the_familys_own_router(checkpoint: Checkpoints, family: str, kernel: str) -> None:
    """Text and image tokens mixed. The mask comes before the scoring: softmax weights are shares within the group, so without
    renormalisation (olmoe) they are larger than the unsplit model's. Sigmoid scores do not depend on other experts.
    """
    folder = checkpoint(family)
    # two experts of either half for each group: deepseek's parts are the halves
    recipe = pretrained(folder, split(folder, [0, 3, 4, 5]), **{"training.experts": kernel})
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    ids, modality = tokens(), torch.randint(0, 3, (51,), generator=torch.Generator().manual_seed(1))
    mask_routers(reference, plan, (modality == 2).long())
    expected = reference(input_ids=ids, labels=ids)
    got = model(input_ids=ids, labels=ids, routing=Routing.of(modality, (0, 0, 1), 2))
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    expected.loss.backward()
    got.loss.backward()
    for name, ours, theirs in gradient_pairs(model, plan, reference):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_another_groups_experts_is_exactly_zero(checkpoint: Checkpoints, family: str) -> None:
    folder = checkpoint(family)
    first = list(range(6)) if family != ERNIE else list(range(8))
    model, _ = decoder(pretrained(folder, split(folder, first)))
    ids = tokens()
    for modality, own, other in ((0, "understanding", "generation"), (2, "generation", "understanding")):
        model.zero_grad()
        model(input_ids=ids, labels=ids, routing=Routing.of(torch.full((51,), modality), (0, 0, 1), 2)).loss.backward()
        for kind in ("experts", "router"):
            gradients = {n: p.grad for n, p in model.named_parameters() if f".{kind}." in n and p.requires_grad}
            assert any(g is not None and g.any() for n, g in gradients.items() if f".{own}." in n)
            assert all(g is not None and not g.any() for n, g in gradients.items() if f".{other}." in n)


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "glm4v_moe", ERNIE])
def test_selection_biases_stay_what_they_are_and_are_saved(checkpoint: Checkpoints, family: str) -> None:
    """Buffers stay buffers, parameters without gradient stay so, and both are sliced."""
    folder = checkpoint(family)
    first = [0, 2, 5, 7] if family != ERNIE else list(range(8))
    recipe = pretrained(folder, split(folder, first))
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    fixed = [t for t in plan.tensors if t.role == FIXED and t.origin and ".gate." in t.origin.names[0]]
    assert len(fixed) == 2 * len(plan.moe_layers)
    saved, whole, buffers = saved_tensors(model), saved_tensors(reference), dict(model.named_buffers())
    for tensor in fixed:
        name = tensor.name.removeprefix("backbone.")
        assert tensor.origin is not None
        assert tensor.origin.rows is not None
        assert (name in buffers) == (family != ERNIE)
        assert not saved[name].requires_grad
        assert saved[name].any()
        expected = whole[tensor.origin.names[0]].index_select(tensor.origin.axis, torch.tensor(tensor.origin.rows))
        assert torch.equal(saved[name], expected)


@pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v3", "hunyuan_v1_moe"])
def test_without_shared_experts_their_output_is_zero(checkpoint: Checkpoints, family: str) -> None:
    folder = checkpoint(family)
    recipe = pretrained(folder, **{"model.shared": "none"})
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    assert not any(".shared_expert" in n for n, _ in model.named_parameters())
    assert "shared" not in plan.roles
    for name, parameter in reference.named_parameters():
        if ".shared_" in name and "down_proj" in name:
            parameter.data.zero_()
    ids = tokens()
    torch.testing.assert_close(model(input_ids=ids).logits, reference(input_ids=ids).logits, rtol=1e-5, atol=1e-5)

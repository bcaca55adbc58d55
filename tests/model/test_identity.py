"""Promises 1 and 2: one group is the original, bit for bit; a split is a mask on the router's logits."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from smoe_cli.model.backbone import plain_backbone
from smoe_cli.model.build import build_model
from smoe_cli.model.routing import Routing
from smoe_cli.model.surgery import operate
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.checks.experts import RESERVED
from tests.helpers import one_group, tiny


def original(recipe, kernel: str):
    plan = compile_plan(recipe)
    torch.manual_seed(3)
    model = plain_backbone(recipe, plan)
    model.set_experts_implementation(kernel)
    return model, plan


def twin(recipe, kernel: str):
    model, plan = original(recipe, kernel)
    return operate(model, plan), plan


@pytest.mark.parametrize("kernel", ["grouped_mm", "eager", "batched_mm"])
def test_one_group_equals_the_original_bit_for_bit(kernel: str) -> None:
    """Logits, and the gradient of every parameter, on plain text through the plain transformers call."""
    recipe = one_group()
    reference, _ = original(recipe, kernel)
    model, _ = twin(recipe, kernel)
    ids = torch.randint(5, 261, (3, 17))
    expected, got = reference(input_ids=ids, labels=ids), model(input_ids=ids, labels=ids)
    assert torch.equal(expected.logits, got.logits)
    expected.loss.backward()
    got.loss.backward()
    rename = {".mlp.gate.": ".mlp.router.all.", ".mlp.experts.": ".mlp.experts.all."}
    own = dict(model.named_parameters())
    for name, parameter in reference.named_parameters():
        for old, new in rename.items():
            name = name.replace(old, new)
        assert torch.equal(parameter.grad, own.pop(name).grad), name
    assert not own


def test_greedy_generation_by_transformers_equals_the_original() -> None:
    recipe = one_group()
    reference, _ = original(recipe, "grouped_mm")
    model, _ = twin(recipe, "grouped_mm")
    ids = torch.randint(5, 261, (2, 9))
    options = {
        "max_new_tokens": 8,
        "do_sample": False,
        "use_cache": True,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(ids),
    }
    assert torch.equal(reference.eval().generate(ids, **options), model.eval().generate(ids, **options))


def masked_reference(model, plan, x_TD: Tensor, modality_T: Tensor, block) -> Tensor:
    """The unsplit block with −inf on the logits of experts outside the token's group, token by token and expert by expert."""
    out = torch.zeros_like(x_TD)
    for t in range(len(x_TD)):
        group = plan.groups[plan.group_of[("text", "vit", "vae")[int(modality_T[t])]]]
        logits = block.gate.weight @ x_TD[t]
        mask = torch.full_like(logits, float("-inf"))
        mask[list(group.experts[0])] = 0
        probabilities = (logits + mask).softmax(-1)
        value, index = probabilities.topk(block.gate.top_k)
        for weight, expert in zip(value / value.sum(), index, strict=True):
            gate, up = (block.experts.gate_up_proj[expert] @ x_TD[t]).chunk(2)
            out[t] += weight * (block.experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up))
    shared = block.shared_expert(x_TD) * torch.sigmoid(block.shared_expert_gate(x_TD))
    return out + shared


@pytest.mark.parametrize("kernel", ["grouped_mm", "eager", "batched_mm"])
@pytest.mark.parametrize("mix", ["mixed", "text", "vae"])
def test_a_split_equals_masking_the_routers_logits(kernel: str, mix: str) -> None:
    recipe = tiny()
    reference, plan = original(recipe, kernel)
    model, _ = twin(recipe, kernel)
    x = torch.randn(1, 40, 32)
    modality = {"mixed": torch.randint(0, 3, (40,)), "text": torch.zeros(40, dtype=torch.long), "vae": torch.full((40,), 2)}[
        mix
    ]
    block = model.model.layers[0].mlp
    block.routing = Routing.of(modality, block.group_of, 2)
    expected = masked_reference(model, plan, x[0], modality, reference.model.layers[0].mlp)
    torch.testing.assert_close(block(x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["grouped_mm", "eager"])
def test_gradient_of_another_groups_experts_is_exactly_zero(kernel: str) -> None:
    model, _ = twin(tiny(), kernel)
    block = model.model.layers[0].mlp
    for modality, own, other in ((0, "understanding", "generation"), (2, "generation", "understanding")):
        block.zero_grad()
        block.routing = Routing.of(torch.full((20,), modality), block.group_of, 2)
        block(torch.randn(1, 20, 32)).square().sum().backward()
        for kind in (block.experts, block.router):
            assert any(p.grad.any() for p in kind[own].parameters())
            assert all(p.grad is not None and not p.grad.any() for p in kind[other].parameters())


def test_the_two_kernels_agree_on_a_mixed_batch() -> None:
    from tests.helpers import random_batch

    recipe = tiny()
    batch = random_batch(recipe)
    losses = {}
    for kernel in ("grouped_mm", "eager", "batched_mm"):
        changed = tiny(**{"training.experts": kernel})
        out = build_model(changed, compile_plan(changed))(batch)
        losses[kernel] = torch.stack([out.text_losses.sum(), out.flow_losses.sum()])
    torch.testing.assert_close(losses["grouped_mm"], losses["eager"], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(losses["batched_mm"], losses["eager"], rtol=1e-5, atol=1e-4)


def test_names_that_torch_keeps_for_itself_are_refused_by_the_recipe() -> None:
    """Groups lie by their names in a ModuleDict, which refuses those that it has itself."""
    own = {name for name in dir(torch.nn.ModuleDict()) if re.fullmatch(r"[a-z][a-z0-9_-]*", name)}
    assert own <= RESERVED

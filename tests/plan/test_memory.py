"""Memory: exact parts by hand, the activations against what autograd really keeps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from smoe_cli.plan import Memory, compile_plan
from tests.plan.recipes import recipe
from tests.plan.reference import decoder


def memory(phase: int = 0, processes: int = 1, **changes: Any) -> Memory:
    return compile_plan(recipe(**changes), processes).phases[phase].memory


def test_parts_by_hand() -> None:
    plan = compile_plan(recipe())
    total, vision = plan.parameters.total, plan.parameters.vision
    warm, joint = plan.phases[0].memory, plan.phases[1].memory
    assert warm.weights == joint.weights == 4 * total
    assert (warm.gradients, joint.gradients) == (4 * (total - vision), 4 * total)
    assert (warm.optimizer, joint.optimizer) == (8 * (total - vision), 8 * total)
    assert warm.autocast == warm.ema == 0
    assert warm.total == sum(dataclasses.asdict(warm).values())


def test_a_rate_of_zero_still_has_gradients_and_moments() -> None:
    zero = memory(**{"phases.0.learning_rate": {"default": 0.0}})
    assert zero == memory(**{"phases.0.learning_rate": {"default": 1.0}})


def test_freezing_keeps_the_moments_but_no_gradients() -> None:
    plan = compile_plan(recipe(**{"phases.1.freeze": ["shared"]}))
    total, shared = plan.parameters.total, plan.parameters.roles["shared"]
    assert plan.phases[1].memory.gradients == 4 * (total - shared)
    assert plan.phases[1].memory.optimizer == 8 * total


def test_averages_are_kept_of_the_whole_model() -> None:
    plan = compile_plan(recipe(training={"ema": {"decay": 0.999}}))
    assert [phase.memory.ema for phase in plan.phases] == [4 * plan.parameters.total] * 2


def test_bf16_adds_copies_of_the_matrices_and_keeps_float32_masters() -> None:
    plan = compile_plan(recipe(training={"precision": "bf16"}))
    full, half = memory(), plan.phases[0].memory
    matrices = sum(t.numel for t in plan.tensors if len(t.shape) > 1 and "embed_tokens" not in t.name)
    assert half.autocast == 2 * matrices
    assert dataclasses.replace(half, autocast=0) == full


def test_processes_and_accumulation_share_the_activations_only() -> None:
    alone = memory()
    for other in (memory(processes=2), memory(**{"phases.0.accumulate": 4})):
        assert 2 * other.activations == alone.activations
        assert dataclasses.replace(other, activations=alone.activations) == alone


def test_a_trained_vision_encoder_keeps_its_activations() -> None:
    images = {"phases.1.mixture": {"docs": 1, "read": 1}}
    trained = memory(1, **images)
    assert trained.activations > memory(1, **images, **{"phases.1.freeze": ["vision"]}).activations
    assert trained.activations > memory(1).activations  # this mixture holds no image to understand


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_about_what_autograd_keeps(attention: str, precision: str) -> None:
    """Bytes of a further token in a further layer, measured on the transformers decoder: within 25% of the estimate."""
    sizes = {"hidden_size": 64, "moe_intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    changes: dict[str, Any] = {f"model.backbone.scratch.{key}": value for key, value in sizes.items()}
    changes |= {"training": {"attention": attention, "precision": precision}, "phases.1.freeze": ["vision"]}

    def kept(layers: int, rows: int) -> tuple[int, int]:
        made = recipe(**changes, **{"model.backbone.scratch.num_hidden_layers": layers, "phases.1.tokens_per_step": 32 * rows})
        return _autograd_keeps(made, rows, precision == "bf16"), compile_plan(made).phases[1].memory.activations

    corners = [kept(layers, rows) for layers, rows in ((3, 6), (1, 6), (3, 2), (1, 2))]
    measured, estimated = (a - b - c + d for a, b, c, d in zip(*corners, strict=True))
    assert 0.75 < measured / estimated < 1.25


def _autograd_keeps(made: Any, rows: int, bf16: bool) -> int:
    model = decoder(made, 261, attention=made.training.attention, experts="grouped_mm")
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    tokens = torch.randint(0, 261, (rows, 32), generator=torch.Generator().manual_seed(0))
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        logits = model(tokens).logits
    total = sum(storage.nbytes() for storage in kept.values())
    assert logits.requires_grad
    return total

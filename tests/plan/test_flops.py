"""FLOPs against torch's own counter on real modules: equal, not close."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from smoe_cli.plan import compile_plan
from tests.families.conftest import Written
from tests.families.tiny import TEXT_FAMILIES
from tests.plan.pretrained import plan_of
from tests.plan.recipes import SIGLIP, recipe
from tests.plan.reference import decoder, encoder

ONE = {
    "model.groups": [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 8}],
    "phases.0.learning_rate": {"default": 1e-3},
    "phases.1.learning_rate": {"default": 1e-3},
}


def counted(module: torch.nn.Module, x: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops()


def test_a_text_token_costs_what_torch_counts() -> None:
    made = recipe(**ONE)
    plan = compile_plan(made)
    row = torch.zeros(1, plan.sequence_length, dtype=torch.long)
    model = decoder(made, plan.vocab_size)
    # transformers 5.17 multiplies positions and frequencies of the rotary embedding as matrices, later versions do not
    inverse_frequencies = model.model.rotary_emb.inv_freq.numel()
    extra = counted(model, row) - plan.flops["text"].forward * plan.sequence_length
    assert extra in (0, 2 * plan.sequence_length * inverse_frequencies)


@pytest.mark.parametrize("family", [family for family in TEXT_FAMILIES if family != "qwen2_moe"])
def test_a_text_token_of_a_pretrained_family(family: str, written: Written) -> None:
    folder = written(family)
    plan = plan_of(folder, **{"model.groups": ONE["model.groups"]})
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", experts_implementation="eager")
    row = torch.full((1, plan.sequence_length), 7)
    extra = counted(model, row) - plan.flops["text"].forward * plan.sequence_length
    assert extra in (0, 2 * plan.sequence_length * model.model.rotary_emb.inv_freq.numel())


@pytest.mark.parametrize("changes", [{}, SIGLIP], ids=["vit", "siglip"])
def test_a_vit_token_costs_the_decoder_and_its_share_of_the_encoder(changes: dict) -> None:
    made = recipe(**changes)
    plan = compile_plan(made)
    assert made.model.vision is not None
    image = torch.zeros(1, 3, *made.model.vision.image_size)
    projector = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 16))
    entrance = counted(encoder(made), image) + counted(projector, torch.zeros(plan.vit_tokens, 8))
    head = 2 * plan.vocab_size * 16
    assert plan.flops["vit"].forward == plan.flops["text"].forward - head + entrance // plan.vit_tokens


def test_a_vae_token_costs_the_decoder_and_the_latent_interface() -> None:
    plan = compile_plan(recipe())
    head, fewer_router_rows = 2 * plan.vocab_size * 16, 2 * 2 * (6 - 2) * 16
    interface = 2 * 2 * 16 * 24 + 2 * (256 * 16 + 16 * 16) // 8
    assert plan.flops["vae"].forward == plan.flops["text"].forward - head - fewer_router_rows + interface


def test_training_costs_three_forwards_and_checkpointing_one_more_of_the_decoder() -> None:
    plain = compile_plan(recipe()).flops["text"]
    checkpointed = compile_plan(recipe(training={"activation_checkpointing": True})).flops["text"]
    assert plain.training == 3 * plain.forward
    assert checkpointed.training - plain.training == plain.forward - 2 * 261 * 16
    assert checkpointed.forward == plain.forward

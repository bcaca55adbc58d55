"""Counts against brute-force sums over real modules."""

from __future__ import annotations

import pytest

from smoe_cli.plan import compile_plan
from tests.plan.recipes import SIGLIP, recipe
from tests.plan.reference import decoder, encoder


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("changes", [{}, SIGLIP], ids=["vit", "siglip"])
def test_totals_are_those_of_the_real_modules(changes: dict, tied: bool) -> None:
    made = recipe(**changes, **{"model.backbone.scratch.tie_word_embeddings": tied})
    plan = compile_plan(made)
    backbone = sum(p.numel() for p in decoder(made, plan.vocab_size).parameters())
    vision = sum(p.numel() for p in encoder(made).parameters())
    assert plan.parameters.backbone == backbone
    assert plan.parameters.vision == vision
    assert plan.parameters.total == backbone + vision + plan.parameters.projector + plan.parameters.latents
    assert plan.parameters.added == 0


def test_active_parameters_by_hand() -> None:
    """Two layers, d=16, f=6, top-2, shared width 10, vocabulary 261."""
    plan = compile_plan(recipe())
    experts = 2 * 2 * 3 * 16 * 6
    shared = 2 * (3 * 16 * 10 + 16)
    attention = 2 * ((16 + 8 + 8) * 17 + 16 * 16)
    norms = 2 * 2 * 16 + 16
    decoder = experts + shared + attention + norms
    assert plan.active["text"].total == decoder + 2 * 6 * 16 + 2 * 261 * 16
    assert plan.active["vit"].total == decoder + 2 * 6 * 16 + plan.parameters.vision + plan.parameters.projector
    assert plan.active["vae"].total == decoder + 2 * 2 * 16 + plan.parameters.latents


def test_active_parameters_are_counted_by_the_group_that_serves_the_modality() -> None:
    active = compile_plan(recipe()).active
    assert "experts.generation" in active["vae"].roles
    assert not {"experts.understanding", "router.understanding", "embeddings", "vision"} & set(active["vae"].roles)
    assert not {"experts.generation", "router.generation", "latents"} & set(active["vit"].roles)


def test_shared_experts_count_only_for_the_modalities_they_serve() -> None:
    plan = compile_plan(recipe(**{"model.shared.modalities": ["text", "vit"], "phases.0.shields": None}))
    assert "shared" in plan.active["text"].roles
    assert "shared" not in plan.active["vae"].roles


def test_one_group_with_top_k_of_all_experts_uses_the_whole_decoder() -> None:
    one = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 8}]
    changes = {"model.groups": one, "model.backbone.scratch.num_experts_per_tok": 8}
    plan = compile_plan(recipe(**changes, **{f"phases.{i}.learning_rate": {"default": 1e-3} for i in (0, 1)}))
    assert plan.active["text"].total == plan.parameters.backbone


def test_trainable_parameters() -> None:
    plan = compile_plan(recipe())
    warm, joint = plan.phases
    assert joint.trainable == plan.parameters.total
    assert warm.trainable == plan.parameters.total - plan.parameters.vision
    assert warm.trainable_active["vit"] == plan.active["vit"].total - plan.parameters.vision
    assert warm.trainable_active["text"] == plan.active["text"].total
    assert plan.parameters.tensors["vision"] == len([t for t in plan.tensors if t.role == "vision"])

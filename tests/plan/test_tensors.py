"""The analytic tensor list against real transformers modules: same names, same shapes, nothing more, nothing less."""

from __future__ import annotations

import pytest

from smoe_cli.plan import compile_plan
from tests.plan.recipes import SIGLIP, recipe
from tests.plan.reference import decoder, encoder


def split(shapes: dict[str, tuple[int, ...]], groups: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a transformers decoder after surgery: routers and experts are cut by group, the rest stays."""
    cut = {}
    for name, (first, *others) in shapes.items():
        for group, size in groups.items():
            if ".mlp.gate." in name:
                cut[name.replace(".mlp.gate.", f".mlp.router.{group}.")] = (size, *others)
            elif ".mlp.experts." in name:
                cut[name.replace(".mlp.experts.", f".mlp.experts.{group}.")] = (size, *others)
            else:
                cut[name] = (first, *others)
    return {f"backbone.{name}": shape for name, shape in cut.items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("heads", [(4, 2), (2, 2), (4, 1)])
def test_backbone(tied: bool, heads: tuple[int, int]) -> None:
    changes = {"tie_word_embeddings": tied, "num_attention_heads": heads[0], "num_key_value_heads": heads[1]}
    made = recipe(**{f"model.backbone.scratch.{key}": value for key, value in changes.items()})
    plan = compile_plan(made)
    real = {name: tuple(p.shape) for name, p in decoder(made, plan.vocab_size).named_parameters()}
    planned = {tensor.name: tensor.shape for tensor in plan.tensors if tensor.name.startswith("backbone.")}
    assert planned == split(real, {"understanding": 6, "generation": 2})


@pytest.mark.parametrize("changes", [{}, SIGLIP], ids=["vit", "siglip"])
def test_vision(changes: dict) -> None:
    made = recipe(**changes)
    real = {f"vision.{name}": tuple(p.shape) for name, p in encoder(made).named_parameters()}
    tensors = [tensor for tensor in compile_plan(made).tensors if tensor.role == "vision"]
    assert {tensor.name: tensor.shape for tensor in tensors} == real


def test_every_tensor_is_named_once_and_has_a_known_role() -> None:
    plan = compile_plan(recipe())
    names = [tensor.name for tensor in plan.tensors]
    assert len(set(names)) == len(names)
    assert {tensor.role for tensor in plan.tensors} == set(plan.roles)


def test_roles() -> None:
    role = {tensor.name: tensor.role for tensor in compile_plan(recipe()).tensors}
    layer = "backbone.model.layers.1"
    assert role[f"{layer}.mlp.experts.generation.down_proj"] == "experts.generation"
    assert role[f"{layer}.mlp.router.understanding.weight"] == "router.understanding"
    assert role[f"{layer}.mlp.shared_expert_gate.weight"] == "shared"
    assert role[f"{layer}.mlp.shared_expert.up_proj.weight"] == "shared"
    assert role[f"{layer}.self_attn.q_proj.bias"] == "attention"
    assert role[f"{layer}.post_attention_layernorm.weight"] == "norms"
    assert role["backbone.model.norm.weight"] == "norms"
    assert role["backbone.lm_head.weight"] == "embeddings"
    assert role["vision.layernorm.bias"] == "vision"
    assert role["projector.2.bias"] == "projector"
    assert role["latents.norm.weight"] == "latents"


def test_projector_and_latent_interface() -> None:
    shape = {tensor.name: tensor.shape for tensor in compile_plan(recipe()).tensors}
    assert shape["projector.0.weight"] == (16, 8)
    assert shape["projector.2.weight"] == (16, 16)
    assert shape["latents.proj_in.weight"] == (16, 24)
    assert shape["latents.time.0.weight"] == (16, 256)
    assert shape["latents.time.2.weight"] == (16, 16)
    assert shape["latents.norm.weight"] == (16,)
    assert shape["latents.proj_out.weight"] == (24, 16)
    assert shape["latents.proj_out.bias"] == (24,)
    linear = compile_plan(recipe(**{"model.vision.projector": "linear"}))
    assert [tensor.name for tensor in linear.tensors if tensor.role == "projector"] == [
        "projector.0.weight",
        "projector.0.bias",
    ]


def test_a_text_model_has_neither_vision_nor_latents() -> None:
    changes = {"model.vision": None, "model.latents": None, "phases.0.freeze": None}
    plan = compile_plan(recipe(**changes))
    assert not {"vision", "projector", "latents"} & set(plan.roles)
    assert (plan.vit_tokens, plan.vae_tokens, plan.latent_dim) == (0, 0, 0)
    assert set(plan.active) == {"text"}

"""Plans of pretrained backbones against the transformers models themselves, built without memory: all is accounted for."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from smoe_cli.plan import FIXED, Plan, Source, Tensor, compile_plan
from tests.families.conftest import Written
from tests.families.tiny import DENSE_FAMILIES, FAMILIES, MULTIMODAL_FAMILIES
from tests.plan.pretrained import backbone_of, plan_of, recipe_of
from tests.plan.recipes import recipe

Shape = tuple[int, ...]
KINDS = {"attention", "norms", "embeddings", "dense", "vision", "projector"}


def plain(folder: Path) -> PreTrainedModel:
    """The family's own model on the meta device."""
    config = AutoConfig.from_pretrained(folder)
    auto = AutoModelForImageTextToText if config.model_type in MULTIMODAL_FAMILIES else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config)


def saved(model: PreTrainedModel) -> dict[str, Shape]:
    """Parameters and persistent buffers; a tied head counts once."""
    buffers = {name for name, _ in model.named_buffers()} & set(model.state_dict())
    tensors = {**dict(model.named_parameters()), **{name: model.get_buffer(name) for name in buffers}}
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def collected(plan: Plan) -> dict[str, tuple[int, Counter[int]]]:
    """{name in the plain model: (values that our tensors take from it, how often each row is taken)}."""
    taken: dict[str, tuple[int, Counter[int]]] = {}
    for tensor in plan.tensors:
        if tensor.origin is None:
            continue
        for name in tensor.origin.names:
            values, rows = taken.get(name, (0, Counter()))
            taken[name] = (values + tensor.numel // len(tensor.origin.names), rows + Counter(tensor.origin.rows or ()))
    return taken


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_the_plain_model_goes_to_one_place_whole(family: str, written: Written) -> None:
    folder = written(family)
    real = saved(plain(folder))
    taken = collected(plan_of(folder))
    assert {name: values for name, (values, _) in taken.items()} == {name: math.prod(shape) for name, shape in real.items()}
    for name, (_, rows) in taken.items():
        assert not rows or (max(rows.values()) == 1 and sorted(rows) == list(range(len(rows)))), name


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_of_what_surgery_leaves_alone(family: str, written: Written) -> None:
    folder = written(family)
    real, backbone = saved(plain(folder)), backbone_of(folder)
    kept = {f"backbone.{name}": shape for name, shape in real.items() if backbone.part(name).kind in KINDS}
    planned = {tensor.name: tensor.shape for tensor in plan_of(folder).tensors if tensor.role in KINDS}
    assert {name: shape for name, shape in planned.items() if name.startswith("backbone.")} == kept


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_upcycled_tensors(family: str, written: Written) -> None:
    folder = written(family)
    real = saved(plain(folder))
    tensors = {tensor.name: tensor for tensor in plan_of(folder, **{"model.backbone.upcycle.shared": 2}).tensors}
    assert {name for tensor in tensors.values() if tensor.origin for name in tensor.origin.names} == set(real)
    f, d = real["model.layers.0.mlp.gate_proj.weight"]
    block = "backbone.model.layers.1.mlp"
    shapes = {name.removeprefix(f"{block}."): t.shape for name, t in tensors.items() if name.startswith(block)}
    assert shapes == {
        "router.understanding.weight": (6, d),
        "experts.understanding.gate_up_proj": (6, 2 * f, d),
        "experts.understanding.down_proj": (6, d, f),
        "router.generation.weight": (2, d),
        "experts.generation.gate_up_proj": (2, 2 * f, d),
        "experts.generation.down_proj": (2, d, f),
        "shared_expert.gate_proj.weight": (2 * f, d),
        "shared_expert.up_proj.weight": (2 * f, d),
        "shared_expert.down_proj.weight": (d, 2 * f),
    }
    stacked, joined = tensors[f"{block}.experts.generation.down_proj"], tensors[f"{block}.shared_expert.down_proj.weight"]
    assert stacked.origin is not None
    assert joined.origin is not None
    assert (stacked.origin.copies, stacked.origin.scale) == (2, 1 / 3)
    assert (joined.origin.axis, joined.origin.scale, len(joined.origin.names)) == (1, 1 / 3, 2)
    assert tensors[f"{block}.router.generation.weight"].origin is None


def test_from_scratch_is_what_transformers_builds() -> None:
    plan = compile_plan(recipe())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**plan.source.backbone.config))
    assert {name: tuple(shape) for name, shape in plan.source.backbone.tensors.items()} == saved(model)
    assert all(tensor.origin is None for tensor in plan.tensors)


def test_selection_biases_are_fixed_and_have_no_rate(written: Written) -> None:
    plan = plan_of(written("deepseek_v3"))
    fixed = [tensor for tensor in plan.tensors if tensor.role == FIXED]
    assert [(t.name.rsplit(".", 2)[1], t.shape) for t in fixed] == [("understanding", (6,)), ("generation", (2,))] * 2
    assert FIXED not in plan.roles
    assert all(FIXED not in phase.rates and FIXED not in phase.frozen for phase in plan.phases)
    assert plan.parameters.roles[FIXED] == 16


def test_layers_without_experts(written: Written) -> None:
    plan = plan_of(written("glm4_moe"))
    assert plan.moe_layers == (1, 2)
    assert all(len(group.experts) == 2 for group in plan.groups)
    dense = [tensor.name for tensor in plan.tensors if tensor.role == "dense"]
    assert dense == [f"backbone.model.layers.0.mlp.{name}_proj.weight" for name in ("down", "gate", "up")]
    assert "dense" in plan.roles


def test_pools_are_split_by_their_own_numbers(written: Written) -> None:
    plan = plan_of(written("ernie4_5_vl_moe"))
    assert [(group.pool, group.experts[0]) for group in plan.groups] == [(0, tuple(range(8))), (1, tuple(range(8, 16)))]
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    block = "backbone.model.language_model.layers.1.mlp"
    wide, narrow = (tensors[f"{block}.experts.{group}.down_proj"] for group in ("understanding", "generation"))
    assert (wide.shape, narrow.shape) == ((8, 32, 12), (8, 32, 8))
    assert narrow.origin is not None
    assert narrow.origin.names == ("model.language_model.layers.1.mlp.vision_moe.experts.down_proj",)
    assert narrow.origin.rows == tuple(range(8))
    bias = tensors[f"{block}.router.generation.moe_statics.e_score_correction_bias"]
    assert (bias.shape, bias.role) == ((1, 8), FIXED)
    assert bias.origin is not None
    assert bias.origin.axis == 1


@pytest.mark.parametrize("family", MULTIMODAL_FAMILIES)
def test_own_vision(family: str, written: Written) -> None:
    plan = plan_of(written(family))
    assert plan.vit_tokens == (32 // 16) ** 2
    assert plan.image_positions == "mrope"
    assert not [tensor for tensor in plan.tensors if tensor.name.startswith(("vision.", "projector."))]
    assert {"vision", "projector"} <= set(plan.active["vit"].roles)


def test_without_vision_the_own_encoder_is_carried_along(written: Written) -> None:
    folder = written("qwen3_vl_moe")
    groups = [{"name": "all", "modalities": ["text", "vae"], "experts": 8}]
    changes = {
        "model.vision": None,
        "model.groups": groups,
        "phases.0.mixture": {"docs": 1, "draw": 1},
        "data.sources.read": None,
    }
    seeing, blind = plan_of(folder), plan_of(folder, **changes)
    own = [tensor.name for tensor in seeing.tensors if tensor.role in ("vision", "projector")]
    assert [tensor.name for tensor in blind.tensors if tensor.role == FIXED] == own
    assert blind.parameters.vision == seeing.parameters.vision
    assert blind.vit_tokens == 0
    assert "vision" not in blind.roles


@pytest.mark.parametrize("family", [*FAMILIES, *DENSE_FAMILIES])
def test_the_source_alone_gives_the_same_plan(family: str, written: Written, tmp_path: Path) -> None:
    made = recipe_of(written(family))
    plan = compile_plan(made)
    stored = Source.from_dict(json.loads(json.dumps(plan.source.to_dict())))
    assert stored == plan.source
    assert compile_plan(made, source=stored) == plan


@pytest.mark.parametrize("family", [*FAMILIES, *DENSE_FAMILIES])
def test_totals(family: str, written: Written) -> None:
    folder = written(family)
    plan = plan_of(folder)
    before = sum(math.prod(shape) for shape in backbone_of(folder).tensors.values())
    own = sum(tensor.numel for tensor in plan.tensors if tensor.name.startswith("backbone."))
    assert sum(plan.parameters.roles.values()) == plan.parameters.total == sum(t.numel for t in plan.tensors)
    assert own == before + plan.parameters.added
    assert (plan.parameters.added == 0) == (family not in DENSE_FAMILIES)


def rows_of(tensors: tuple[Tensor, ...], ending: str) -> list[tuple[int, ...] | None]:
    return [tensor.origin.rows for tensor in tensors if tensor.name.endswith(ending) and tensor.origin]


def test_left_out_shared_experts_are_counted(written: Written) -> None:
    folder = written("qwen2_moe")
    with_shared, without = plan_of(folder), plan_of(folder, **{"model.shared": "none"})
    assert without.parameters.left_out == with_shared.parameters.roles["shared"]
    assert without.parameters.added == 0
    assert "shared" not in without.roles
    assert with_shared.parameters.left_out == 0


def test_mounted_groups_repeat_rows(written: Written) -> None:
    groups = [
        {"name": "text", "modalities": ["text"], "experts": 8},
        {"name": "vit", "modalities": ["vit"], "experts": 8, "mount": {"group": "text"}},
        {"name": "vae", "modalities": ["vae"], "experts": 16, "mount": {"group": "text", "noise": 0.01}},
    ]
    plan = plan_of(written("olmoe"), **{"model.groups": groups})
    text, vit, vae = plan.groups
    assert (vit.experts, vit.mounted_from, vit.noise) == (text.experts, "text", 0.0)
    assert vae.experts == tuple(layer * 2 for layer in text.experts)
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    for ending in ("router.vae.weight", "experts.vae.gate_up_proj", "experts.vae.down_proj"):
        origin = tensors[f"backbone.model.layers.0.mlp.{ending}"].origin
        assert origin is not None
        assert (origin.rows, origin.noise) == (tuple(range(8)) * 2, 0.01)
    mounted = [tensor for tensor in plan.tensors if tensor.role in ("experts.vit", "router.vit", "experts.vae", "router.vae")]
    assert plan.parameters.added == sum(tensor.numel for tensor in mounted)


def test_groups_mounted_in_an_upcycled_model_copy_the_fresh_router(written: Written) -> None:
    groups = [
        {"name": "text", "modalities": ["text", "vit"], "experts": 4},
        {"name": "vae", "modalities": ["vae"], "experts": 8, "mount": {"group": "text", "noise": 0.5}},
    ]
    plan = plan_of(written("llama"), **{"model.groups": groups, "model.backbone.upcycle.experts": 4})
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    router = tensors["backbone.model.layers.2.mlp.router.vae.weight"]
    assert router.origin is not None
    assert router.origin.built == "backbone.model.layers.2.mlp.router.text.weight"
    assert (router.origin.rows, router.origin.noise) == ((0, 1, 2, 3) * 2, 0.5)
    experts = tensors["backbone.model.layers.2.mlp.experts.vae.gate_up_proj"].origin
    assert experts is not None
    assert (experts.copies, experts.noise) == (8, 0.5)

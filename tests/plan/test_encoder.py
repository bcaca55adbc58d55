"""Pretrained vision encoders: what the plan reads from headers against the encoders that transformers builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from smoe_cli.errors import UserError
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.plan.encoder import VisionFacts, read_encoder
from tests.plan.recipes import recipe

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 4}
WIDE = {**SIZES, "intermediate_size": 20}
TEXT = {"vocab_size": 30, "max_position_embeddings": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTModel", "vit", WIDE),
    "vit with a classifier": ("ViTForImageClassification", "vit", WIDE),
    "siglip encoder": ("SiglipVisionModel", "siglip_vision_model", WIDE),
    "siglip": ("SiglipModel", "siglip", {"vision_config": WIDE, "text_config": TEXT}),
    "clip encoder": ("CLIPVisionModel", "clip_vision_model", WIDE),
    "clip": ("CLIPModel", "clip", {"vision_config": WIDE, "text_config": TEXT}),
    "dinov2": ("Dinov2Model", "dinov2", SIZES),
    "dinov2 with registers": ("Dinov2WithRegistersModel", "dinov2_with_registers", SIZES),
}
HEADLESS = {"vit": {"add_pooling_layer": False}}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of the encoder that the test is called for."""
    cls, family, sizes = ENCODERS[request.param]
    getattr(transformers, cls)(AutoConfig.for_model(family, **sizes)).save_pretrained(tmp_path)
    return tmp_path


def seeing(folder: Path, projector: str = "mlp") -> Plan:
    vision = {"family": "pretrained", "path": str(folder), "projector": projector}
    return compile_plan(recipe(**{"model.vision": vision, "data.sequence_length": 64}))


def built(facts: VisionFacts) -> dict[str, tuple[int, ...]]:
    config = AutoConfig.for_model(**facts.config)
    config.vision_use_head = False
    with torch.device("meta"):
        model = AutoModel.from_config(config, **HEADLESS.get(config.model_type, {}))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("folder", ENCODERS, indirect=True)
def test_tensors_are_those_of_the_encoder(folder: Path) -> None:
    """Names differ between files and memory, and between versions of transformers; shapes do not."""
    facts = read_encoder(str(folder), None)
    assert sorted(facts.tensors.values()) == sorted(built(facts).values())
    plan = seeing(folder)
    assert [tensor.shape for tensor in plan.tensors if tensor.role == "vision"] == list(facts.tensors.values())
    assert plan.vit_tokens == 36
    assert plan.parameters.projector == 16 * 16 + 16 + 16 * 16 + 16
    assert seeing(folder, "linear").parameters.projector == 16 * 16 + 16


@pytest.mark.parametrize("folder", ENCODERS, indirect=True)
def test_sizes_that_a_config_leaves_out_are_read_from_the_tensors(folder: Path) -> None:
    whole = read_encoder(str(folder), None)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    inner = config.get("vision_config", config)
    for key in ("image_size", "patch_size", "hidden_size", "num_hidden_layers"):
        del inner[key]
    path.write_text(json.dumps(config))
    assert read_encoder(str(folder), None).config == whole.config


@pytest.mark.parametrize("folder", ["clip"], indirect=True)
def test_a_model_type_that_a_config_leaves_out(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["vision_config"]["model_type"]
    path.write_text(json.dumps(config))
    assert read_encoder(str(folder), None).config["model_type"] == "clip_vision_model"


@pytest.mark.parametrize("folder", ["vit"], indirect=True)
def test_a_checkpoint_without_an_encoder(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(file).items() if "patch_embeddings" not in name}
    save_file(tensors, file)
    with pytest.raises(UserError, match="no vision encoder that is known"):
        read_encoder(str(folder), None)

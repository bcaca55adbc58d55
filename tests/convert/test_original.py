"""The way back: without training in between, the checkpoint is the one that the model was made from, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from smoe_cli.convert.options import Options
from smoe_cli.convert.original import to_original
from smoe_cli.convert.symbiotic import to_symbiotic
from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES
from smoe_cli.model.io import load_model, save_model
from tests.convert.make import convert, recipe_data, write_profile, write_recipe
from tests.eval.folders import write_model
from tests.families.tiny import write_checkpoint


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("shards", ["50GB", "30KB"])
@pytest.mark.parametrize("family", ANATOMIES)
def test_every_file_is_the_checkpoints_to_the_byte(tmp_path: Path, family: str, shards: str) -> None:
    checkpoint, folder = convert(tmp_path, family, Options(max_shard=50_000, verify="tensors"), shards=shards)
    report = to_original(folder, tmp_path / "original", Options())
    assert report.check.difference == 0
    assert report.check.tokens > 100
    back = files(tmp_path / "original")
    back.pop("README.md")
    assert back == files(checkpoint)


def test_a_checkpoint_in_half_precision_with_biases_in_float32(tmp_path: Path) -> None:
    """Every tensor keeps its own type on both ways."""
    checkpoint = write_checkpoint("deepseek_v3", tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    mixed = {n: t if n.endswith("correction_bias") else t.to(torch.bfloat16) for n, t in tensors.items()}
    save_file(mixed, checkpoint / "model.safetensors", metadata={"format": "pt"})
    recipe = write_recipe(tmp_path / "recipe.yaml", "deepseek_v3", checkpoint)
    to_symbiotic(recipe, tmp_path / "symbiotic", Options())
    to_original(tmp_path / "symbiotic", tmp_path / "original", Options())
    assert (tmp_path / "original" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_a_checkpoint_without_a_tokenizer(tmp_path: Path) -> None:
    """Trained with another: what comes back has none again, and is checked with the model's."""
    checkpoint = write_checkpoint("qwen3_moe", tmp_path / "checkpoint")
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer_config.json").unlink()
    recipe = write_recipe(tmp_path / "r.yaml", "qwen3_moe", checkpoint, **{"model.tokenizer": {"kind": "bytes"}})
    to_symbiotic(recipe, tmp_path / "symbiotic", Options())
    assert to_original(tmp_path / "symbiotic", tmp_path / "original", Options()).check.tokens > 100
    assert files(tmp_path / "original").keys() - {"README.md"} == files(checkpoint).keys()


def test_experts_of_mixed_types(tmp_path: Path) -> None:
    """A stacked tensor has one type; where the files mix them it is float32, and no value changes."""
    checkpoint = write_checkpoint("qwen2_moe", tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    first = "model.layers.1.mlp.experts.0.down_proj.weight"
    mixed = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items() if name != first}
    save_file({**mixed, first: tensors[first]}, checkpoint / "model.safetensors", metadata={"format": "pt"})
    to_symbiotic(write_recipe(tmp_path / "r.yaml", "qwen2_moe", checkpoint), tmp_path / "symbiotic", Options())
    to_original(tmp_path / "symbiotic", tmp_path / "original", Options())
    back = load_file(tmp_path / "original" / "model.safetensors")
    assert all(torch.equal(back[name].float(), tensor.float()) for name, tensor in {**mixed, first: tensors[first]}.items())


def test_a_head_that_the_files_hold_twice(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen2_moe", tmp_path / "checkpoint", tie_word_embeddings=True)
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    to_symbiotic(write_recipe(tmp_path / "r.yaml", "qwen2_moe", checkpoint), tmp_path / "symbiotic", Options())
    to_original(tmp_path / "symbiotic", tmp_path / "original", Options())
    assert (tmp_path / "original" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_promoted_experts_return_to_their_place(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("olmoe", tmp_path / "checkpoint")
    changes: dict[str, Any] = {
        "model.shared": {"promote": 1},
        "model.profile": str(write_profile(tmp_path / "profile.json", checkpoint)),
        "model.groups": [
            {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": "most-activated"},
            {"name": "generation", "modalities": ["vae"], "experts": 3, "select": "rest"},
        ],
    }
    to_symbiotic(write_recipe(tmp_path / "r.yaml", "olmoe", checkpoint, **changes), tmp_path / "symbiotic", Options())
    assert any("promoted" in name for name in load_file(tmp_path / "symbiotic" / "model.safetensors"))
    to_original(tmp_path / "symbiotic", tmp_path / "original", Options())
    assert (tmp_path / "original" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_trained_weights_go_back_too(tmp_path: Path) -> None:
    """What training changed stands in the place where it belongs, and the config says its type."""
    checkpoint, folder = convert(tmp_path, "qwen2_moe", Options(dtype="BF16"))
    model, tokenizer, loaded, _ = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    save_model(model, tokenizer, tmp_path / "trained", loaded.resolved_yaml())
    report = to_original(tmp_path / "trained", tmp_path / "original", Options())
    back = load_file(tmp_path / "original" / "model.safetensors")
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        assert torch.equal(back[name], tensor.to(torch.bfloat16).float() + 1.0), name
    assert set(report.left_out) == {"vision", "projector", "latents"}
    to_original(tmp_path / "trained", tmp_path / "half", Options(dtype="BF16"))
    config = json.loads((tmp_path / "half" / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16


def test_another_shard_size(tmp_path: Path) -> None:
    checkpoint, folder = convert(tmp_path, "qwen3_moe")
    report = to_original(folder, tmp_path / "original", Options(max_shard=30_000))
    assert report.files > 3
    read = {n: t for file in (tmp_path / "original").glob("*.safetensors") for n, t in load_file(file).items()}
    own = load_file(checkpoint / "model.safetensors")
    assert read.keys() == own.keys()
    assert all(torch.equal(read[name], own[name]) for name in own)


def test_without_the_checkpoints_own_files(tmp_path: Path) -> None:
    """A folder that was saved where the checkpoint was not: the weights are the same, the rest is written anew."""
    checkpoint, folder = convert(tmp_path, "glm4_moe")
    model, tokenizer, loaded, _ = load_model(folder)
    del model.carried_from
    checkpoint.rename(tmp_path / "moved")
    save_model(model, tokenizer, tmp_path / "trained", loaded.resolved_yaml())
    report = to_original(tmp_path / "trained", tmp_path / "original", Options())
    assert any("written anew" in note for note in report.notes)
    own = (tmp_path / "moved" / "model.safetensors").read_bytes()
    assert (tmp_path / "original" / "model.safetensors").read_bytes() == own
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "original").config.model_type == "glm4_moe"


def test_from_scratch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made from scratch, there is no original"):
        to_original(write_model(tmp_path / "model"), tmp_path / "out", Options())


def test_mounted(tmp_path: Path) -> None:
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 8},
        {"name": "generation", "modalities": ["vae"], "experts": 8, "mount": {"group": "understanding"}},
    ]
    _, folder = convert(tmp_path, "qwen2_moe", **{"model.groups": groups})
    with pytest.raises(UserError, match=r"`generation` are copies of `understanding`'s, and a `qwen2_moe` has no place"):
        to_original(folder, tmp_path / "out", Options())


def test_without_shared_experts(tmp_path: Path) -> None:
    changes = {"model.shared": "none", "phases": [{**p, "shields": []} for p in recipe_data("qwen2_moe", tmp_path)["phases"]]}
    _, folder = convert(tmp_path, "qwen2_moe", **changes)
    with pytest.raises(UserError, match="left the shared experts out"):
        to_original(folder, tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_upcycled(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("llama", tmp_path / "checkpoint")
    groups = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 4}]
    upcycle = {"upcycle": {"from": str(checkpoint), "experts": 4}}
    changes = {"model.backbone": upcycle, "model.groups": groups}
    to_symbiotic(write_recipe(tmp_path / "r.yaml", "qwen2_moe", checkpoint, **changes), tmp_path / "symbiotic", Options())
    with pytest.raises(UserError, match="upcycled from a dense `llama`"):
        to_original(tmp_path / "symbiotic", tmp_path / "out", Options())


@pytest.mark.parametrize("swapped", [False, True])
def test_experts_that_lie_stacked_in_the_files(tmp_path: Path, swapped: bool) -> None:
    """In one tensor a projection, with the last two dimensions exchanged or not, as some published checkpoints have them."""
    checkpoint = write_checkpoint("qwen3_vl_moe", tmp_path / "checkpoint")
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    experts = {name: tensor.detach() for name, tensor in model.named_parameters() if ".experts." in name}
    tensors = {n: t for n, t in load_file(checkpoint / "model.safetensors").items() if ".experts." not in n}
    tensors |= {name: t.transpose(1, 2).contiguous() if swapped else t for name, t in experts.items()}
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    recipe = write_recipe(tmp_path / "r.yaml", "qwen3_vl_moe", checkpoint)
    to_symbiotic(recipe, tmp_path / "symbiotic", Options())
    split = load_model(tmp_path / "symbiotic")[0].backbone
    assert torch.equal(
        split.get_parameter("model.language_model.layers.1.mlp.experts.generation.down_proj"),
        experts["model.language_model.layers.1.mlp.experts.down_proj"][[1, 4, 6]],
    )
    report = to_original(tmp_path / "symbiotic", tmp_path / "original", Options())
    assert (tmp_path / "original" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert report.parameters == sum(tensor.numel() for tensor in tensors.values())

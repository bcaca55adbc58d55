"""Conversion to the symbiotic form: the model that training would begin with, without building it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from smoe_cli.convert.options import Options
from smoe_cli.convert.symbiotic import to_symbiotic
from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES
from smoe_cli.model.build import build_model
from smoe_cli.model.io import load_model
from smoe_cli.model.weights import saved_tensors
from smoe_cli.plan import compile_plan
from smoe_cli.recipe import load
from tests.convert.make import convert, recipe_data, write_recipe
from tests.families.tiny import DENSE_FAMILIES, write_checkpoint


def built(recipe: Path) -> dict[str, torch.Tensor]:
    loaded = load(recipe)
    return saved_tensors(build_model(loaded.recipe, compile_plan(loaded.recipe)))


def assert_equal(folder: Path, recipe: Path) -> None:
    """Every tensor of the folder is the built model's."""
    own = built(recipe)
    written = saved_tensors(load_model(folder)[0])
    assert written.keys() == own.keys()
    for name, tensor in own.items():
        assert torch.equal(written[name], tensor), name


@pytest.mark.parametrize("family", ANATOMIES)
def test_every_tensor_is_that_of_the_built_model(tmp_path: Path, family: str) -> None:
    _, folder = convert(tmp_path, family)
    assert_equal(folder, tmp_path / "recipe.yaml")


UPCYCLED: dict[str, Any] = {
    "model.backbone": None,
    "model.groups": [
        {"name": "text", "modalities": ["text"], "experts": 3},
        {"name": "vit", "modalities": ["vit"], "experts": 3, "mount": {"group": "text"}},
        {"name": "vae", "modalities": ["vae"], "experts": 6, "mount": {"group": "text", "noise": 0.01}},
    ],
}


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_upcycled_and_mounted(tmp_path: Path, family: str) -> None:
    checkpoint = write_checkpoint(family, tmp_path / "checkpoint")
    data = {**UPCYCLED, "model.backbone": {"upcycle": {"from": str(checkpoint), "experts": 3}}}
    recipe = write_recipe(tmp_path / "recipe.yaml", "qwen2_moe", checkpoint, **data)
    report = to_symbiotic(recipe, tmp_path / "out", Options())
    assert report.check.difference == 0
    assert_equal(tmp_path / "out", recipe)


def test_mounted_with_noise(tmp_path: Path) -> None:
    groups = [
        {"name": "text", "modalities": ["text"], "experts": 8},
        {"name": "vit", "modalities": ["vit"], "experts": 8, "mount": {"group": "text"}},
        {"name": "vae", "modalities": ["vae"], "experts": 16, "mount": {"group": "text", "noise": 0.1}},
    ]
    _, folder = convert(tmp_path, "qwen2_moe", **{"model.groups": groups})
    assert_equal(folder, tmp_path / "recipe.yaml")


def test_one_group_has_the_logits_of_the_checkpoint(tmp_path: Path) -> None:
    one = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 8}]
    checkpoint, folder = convert(tmp_path, "qwen2_moe", **{"model.groups": one})
    plain = AutoModelForCausalLM.from_pretrained(checkpoint)
    for parameter in plain.parameters():
        parameter.data = parameter.data.clone()
    ids = torch.arange(40)[None] + 5
    with torch.inference_mode():
        assert torch.equal(load_model(folder)[0].backbone(ids).logits, plain.eval()(ids).logits)


def test_shards_are_those_of_one_file(tmp_path: Path) -> None:
    """Sharded on either side, the tensors are the same."""
    _, whole = convert(tmp_path / "a", "qwen3_moe")
    _, sharded = convert(tmp_path / "b", "qwen3_moe", Options(max_shard=40_000), shards="50KB")
    files = sorted(path.name for path in sharded.glob("*.safetensors"))
    assert len(files) > 3
    index = json.loads((sharded / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    read = {name: tensor for file in files for name, tensor in load_file(sharded / file).items()}
    reference = load_file(whole / "model.safetensors")
    assert read.keys() == reference.keys() == index.keys()
    assert all(torch.equal(read[name], reference[name]) for name in reference)
    for file in files:
        size = sum(tensor.nbytes for tensor in load_file(sharded / file).values())
        assert size <= 40_000 or len(load_file(sharded / file)) == 1
    assert torch.equal(next(load_model(sharded)[0].parameters()), next(load_model(whole)[0].parameters()))


@pytest.mark.parametrize(("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16)])
def test_types(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    """The asked type, but for selection biases, which routing keeps in float32."""
    checkpoint, folder = convert(tmp_path, "deepseek_v3", Options(dtype=name))
    for key, tensor in load_file(folder / "model.safetensors").items():
        assert tensor.dtype == (torch.float32 if key.endswith("e_score_correction_bias") else dtype), key
    own = load_file(checkpoint / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    read = load_file(folder / "model.safetensors")["backbone.model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(read, own.to(dtype))


def test_another_checkpoint_than_the_recipe_names(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen2_moe", tmp_path / "checkpoint")
    recipe = write_recipe(tmp_path / "recipe.yaml", "qwen2_moe", tmp_path / "elsewhere")
    to_symbiotic(recipe, tmp_path / "out", Options(), checkpoint=str(checkpoint))
    assert load_model(tmp_path / "out")[2].recipe.model.backbone.pretrained.path == str(checkpoint)  # type: ignore[union-attr]


def test_the_folder_needs_neither_checkpoint_nor_profile(tmp_path: Path) -> None:
    checkpoint, folder = convert(tmp_path, "qwen2_moe")
    before = load_model(folder)[0].state_dict()
    for path in checkpoint.iterdir():
        path.unlink()
    after = load_model(folder)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_files_beside_the_weights_are_carried(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen3_vl_moe", tmp_path / "checkpoint")
    (checkpoint / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    (checkpoint / "LICENSE").write_text("free")
    (checkpoint / "modeling_evil.py").write_text("raise SystemExit")
    recipe = write_recipe(tmp_path / "recipe.yaml", "qwen3_vl_moe", checkpoint)
    to_symbiotic(recipe, tmp_path / "out", Options(verify="tensors"))
    assert (tmp_path / "out" / "preprocessor_config.json").read_bytes() == (
        checkpoint / "preprocessor_config.json"
    ).read_bytes()
    kept = {path.name for path in (tmp_path / "out" / "source").iterdir()}
    assert kept >= {"config.json", "tokenizer.json", "generation_config.json", "preprocessor_config.json", "LICENSE"}
    assert "modeling_evil.py" not in kept


def test_the_card_says_where_it_comes_from(tmp_path: Path) -> None:
    from smoe_cli.files import sha256

    checkpoint, folder = convert(tmp_path, "qwen2_moe")
    card = (folder / "README.md").read_text(encoding="utf-8")
    for words in (
        sha256(checkpoint / "model.safetensors"),
        "Recipe: `converted`",
        "| `understanding` | text, vit | 5 | 0, 2–3, 5, 7 |",
        "equal bit for bit",
        "import smoe_cli",
        "are new, drawn from the recipe's seed",
    ):
        assert words in card


def test_nothing_to_convert(tmp_path: Path) -> None:
    checkpoint, folder = convert(tmp_path, "qwen2_moe")
    with pytest.raises(UserError, match="is a `symbiotic_moe` model already"):
        to_symbiotic(tmp_path / "recipe.yaml", tmp_path / "out", Options(), checkpoint=str(folder))
    import yaml

    data = recipe_data("qwen2_moe", checkpoint)
    from tests.helpers import TINY

    data["model"] = TINY["model"]
    (tmp_path / "scratch.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError, match="made from scratch, there is nothing to convert"):
        to_symbiotic(tmp_path / "scratch.yaml", tmp_path / "out", Options())


def test_a_pretrained_vision_encoder(tmp_path: Path) -> None:
    """Its weights come from its own checkpoint, the projector from the seed."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    encoder = ViTModel(config, add_pooling_layer=False)
    encoder.save_pretrained(tmp_path / "vit")
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    vision = {"family": "pretrained", "path": str(tmp_path / "vit")}
    _, folder = convert(tmp_path, "qwen2_moe", **{"model.vision": vision})
    assert_equal(folder, tmp_path / "recipe.yaml")
    model = load_model(folder)[0]
    assert all(torch.equal(model.vision.get_parameter(n), p) for n, p in encoder.named_parameters())  # type: ignore[union-attr]

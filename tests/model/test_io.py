"""Promise 7: save → load → save gives the same bytes; every tensor is accounted for; damage is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smoe_cli.convert.options import Options
from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES
from smoe_cli.model.folder import write_manifest
from smoe_cli.model.io import load_model, open_folder, save_model
from tests.convert.make import convert
from tests.eval.folders import write_model


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("family", ANATOMIES)
def test_save_load_save(tmp_path: Path, family: str) -> None:
    """After a conversion in float32 the first save already gives the same weights; every later one the same folder."""
    checkpoint, folder = convert(tmp_path, family, Options(verify="tensors"))
    model, tokenizer, loaded, _ = load_model(folder)
    save_model(model, tokenizer, tmp_path / "first", loaded.resolved_yaml())
    for path in checkpoint.iterdir():
        path.unlink()  # what a model folder is loaded from is all that is needed
    model, tokenizer, loaded, _ = load_model(tmp_path / "first")
    save_model(model, tokenizer, tmp_path / "second", loaded.resolved_yaml())
    assert files(tmp_path / "first") == files(tmp_path / "second")
    converted, first = files(folder), files(tmp_path / "first")
    assert converted.keys() - first.keys() == {"README.md"}
    assert [name for name in first if first[name] != converted[name]] == ["manifest.json"]


def test_from_scratch(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first")
    model, tokenizer, loaded, _ = load_model(first)
    save_model(model, tokenizer, tmp_path / "second", loaded.resolved_yaml())
    assert files(first) == files(tmp_path / "second")


def test_shards(tmp_path: Path) -> None:
    """Another layout on the disk, the same model; and the layout is repeated byte for byte."""
    whole = write_model(tmp_path / "whole")
    model, tokenizer, loaded, _ = load_model(whole)
    save_model(model, tokenizer, tmp_path / "sharded", loaded.resolved_yaml(), max_shard=20_000)
    assert len(open_folder(tmp_path / "sharded").checkpoint.files) > 3
    again = load_model(tmp_path / "sharded")[0]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    save_model(again, tokenizer, tmp_path / "again", loaded.resolved_yaml(), max_shard=20_000)
    assert files(tmp_path / "sharded") == files(tmp_path / "again")


def test_selection_biases_are_saved(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "deepseek_v3", Options(verify="tensors"))
    model, tokenizer, loaded, _ = load_model(folder)
    biases = {name: buffer for name, buffer in model.named_buffers() if name.endswith("correction_bias")}
    assert len(biases) == 4
    for number, bias in enumerate(biases.values()):
        bias += number + 1.0
    save_model(model, tokenizer, tmp_path / "again", loaded.resolved_yaml())
    again = dict(load_model(tmp_path / "again")[0].named_buffers())
    assert all(torch.equal(again[name], bias) for name, bias in biases.items())


def _change(folder: Path, edit: Any) -> None:
    """Edit the weights and make the manifest agree."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder)


NORM = "backbone.model.norm.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(NORM), f"`{NORM}` is missing"),
        (lambda t: t.update(extra=torch.zeros(2)), "`extra` is not a tensor of this model"),
        (lambda t: t.update({NORM: torch.ones(31)}), rf"`{NORM}` has shape \(31,\), the model needs \(32,\)"),
        (lambda t: t.update({NORM: torch.full((32,), torch.nan)}), f"`{NORM}` holds values that are not finite"),
    ],
    ids=["missing", "extra", "shape", "not finite"],
)
def test_every_tensor_is_accounted_for(tmp_path: Path, edit: Any, message: str) -> None:
    folder = write_model(tmp_path / "model")
    _change(folder, edit)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", Options(dtype="BF16", verify="tensors"))
    model = load_model(folder)[0]
    name = "model.embed_tokens.weight"
    written = load_file(folder / "model.safetensors")[f"backbone.{name}"]
    assert written.dtype == torch.bfloat16
    assert torch.equal(model.backbone.get_parameter(name), written.float())


@pytest.mark.parametrize("name", ["config.json", "smoe.yaml", "model.safetensors", "tokenizer.json", "source/config.json"])
def test_damage_is_refused_by_name(tmp_path: Path, name: str) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", Options(verify="tensors"))
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}: damaged"):
        load_model(folder)


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    model, tokenizer, loaded, _ = load_model(folder)
    save_model(model, tokenizer, tmp_path / "sharded", loaded.resolved_yaml(), max_shard=20_000)
    (tmp_path / "sharded" / "model-00002-of-00008.safetensors").unlink(missing_ok=True)
    shard = sorted((tmp_path / "sharded").glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(UserError, match="missing, although the manifest lists it"):
        load_model(tmp_path / "sharded")


@pytest.mark.parametrize("change", [{"source": None}, {"source": {"backbone": 1}}, {"model_type": "llama"}])
def test_a_config_of_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    write_manifest(folder)
    with pytest.raises(UserError, match=r"config\.json: "):
        load_model(folder)


def test_two_recipes_that_disagree(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    other = {**config["recipe"], "seed": config["recipe"]["seed"] + 1}
    for recipe, message in ((other, r"is not that of .*smoe\.yaml"), ({"seed": 1}, "cannot be read"), (None, "cannot be read")):
        (folder / "config.json").write_text(json.dumps({**config, "recipe": recipe}), encoding="utf-8")
        write_manifest(folder)
        with pytest.raises(UserError, match=r"config\.json: its `recipe` " + message):
            open_folder(folder)

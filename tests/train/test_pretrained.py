"""Training from a checkpoint: every text family, two steps, through the command line; and checkpoints that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from smoe_cli.cli.main import run as smoe
from smoe_cli.families import open_checkpoint, read_backbone
from smoe_cli.model.io import load_model, save_model
from smoe_cli.plan import FIXED
from smoe_cli.plan.profile import Profile
from tests.families.tiny import DENSE_FAMILIES, TEXT_FAMILIES, write_checkpoint
from tests.helpers import tiny_data
from tests.train.runs import lines

SPLIT: list[dict[str, Any]] = [
    {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": "first"},
    {"name": "generation", "modalities": ["vae"], "experts": 4},
]
MOUNTED: list[dict[str, Any]] = [
    {"name": "text", "modalities": ["text"], "experts": 2},
    {"name": "vit", "modalities": ["vit"], "experts": 2, "mount": {"group": "text"}},
    {"name": "vae", "modalities": ["vae"], "experts": 4, "mount": {"group": "text", "noise": 0.05}},
]
NO_SHARED = ("qwen3_moe", "olmoe")


def recipe(folder: Path, family: str) -> Path:
    """Around `folder/family`: reads, draws, and predicts prose for two steps."""
    source = str(folder / family)
    dense = family in DENSE_FAMILIES
    changes: dict[str, Any] = {
        "model.backbone": {"upcycle": {"from": source, "experts": 2}} if dense else {"pretrained": {"path": source}},
        "model.groups": MOUNTED if dense else SPLIT,
        "training": {"log_every": 1, "checkpoints": {"every": 1}, "experts": "grouped_mm"},
    }
    data = tiny_data(**changes)
    del data["model"]["shared"]
    phase = data["phases"][1]
    phase.update(steps=2, learning_rate={"default": 1e-3}, warmup=0, shields=[])
    if family in NO_SHARED:
        data["model"]["shared"] = "none"
    else:
        phase["shields"] = [{"module": "shared", "modalities": ["vae"], "factor": 0.1}]
    data["phases"] = [phase]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, *DENSE_FAMILIES])
def test_trains_and_opens_again_without_the_checkpoint(tmp_path: Path, family: str) -> None:
    write_checkpoint(family, tmp_path / family)
    assert smoe(["train", str(recipe(tmp_path, family)), "--run-dir", str(tmp_path / "run")]) == 0
    metrics = lines(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in metrics] == [1, 2]
    assert all(line["loss/text"] > 0 and line["loss/flow"] > 0 and line["grad_norm"] > 0 for line in metrics)
    shutil.rmtree(tmp_path / family)
    model, tokenizer, loaded, plan = load_model(tmp_path / "run/model")
    assert plan.total_steps == 2
    fixed = [t.name for t in plan.tensors if t.role == FIXED]
    assert bool(fixed) == (family in ("deepseek_v3", "glm4_moe"))
    saved = load_file(tmp_path / "run/model/model.safetensors")
    assert saved.keys() == {t.name for t in plan.tensors}
    own = model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in saved.items())
    save_model(model, tokenizer, tmp_path / "again", loaded.resolved_yaml())
    first, second = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "run/model", tmp_path / "again")
    )
    assert first == second


def test_promoted_experts_are_trained_shielded_and_saved(tmp_path: Path) -> None:
    """Two of eight experts always on, with a gradient of their own; the model opens without checkpoint and profile."""
    write_checkpoint("olmoe", tmp_path / "olmoe", num_experts_per_tok=3)
    backbone = read_backbone(open_checkpoint(str(tmp_path / "olmoe")))
    counts = tuple((1, 9, 1, 1, 8, 1, 1, 2) for _ in backbone.moe_layers)
    mass = tuple(tuple(map(float, row)) for row in counts)
    profile = Profile(
        "olmoe", backbone.sha256, backbone.moe_layers, 8, 3, {"text": 8}, {"text": counts}, {"text": mass}, pools=(8,)
    )
    (tmp_path / "profile.json").write_text(json.dumps(profile.to_dict()))
    data = yaml.safe_load(recipe(tmp_path, "olmoe").read_text())
    data["model"] |= {"shared": {"promote": 2}, "profile": str(tmp_path / "profile.json")}
    data["model"]["groups"] = [{**SPLIT[0], "experts": 4, "select": "most-activated"}, {**SPLIT[1], "experts": 2}]
    data["phases"][0]["shields"] = [{"module": "shared", "modalities": ["vae"], "factor": 0.1, "mode": "weights"}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    assert smoe(["train", str(tmp_path / "recipe.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
    assert all(line["grad_norm/shared"] > 0 for line in lines(tmp_path / "run/metrics.jsonl"))
    shutil.rmtree(tmp_path / "olmoe")
    (tmp_path / "profile.json").unlink()
    model, _, _, plan = load_model(tmp_path / "run/model")
    assert plan.promoted == ((1, 4),) * 3
    assert model.backbone.model.layers[0].mlp.promoted.gate_up_proj.shape == (2, 24, 32)


@pytest.mark.parametrize("family", ["deepseek_v3", "llama"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, family: str) -> None:
    write_checkpoint(family, tmp_path / family)
    path = recipe(tmp_path, family)
    assert smoe(["train", str(path), "--run-dir", str(tmp_path / "whole")]) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped/model")
    shutil.rmtree(tmp_path / "stopped/checkpoints/step-00000002")
    assert smoe(["train", str(path), "--run-dir", str(tmp_path / "stopped")]) == 0
    for file in ("model/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()


def _without_the_end(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _without_a_shard(folder: Path) -> None:
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def _without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _with_one_tensor_more(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.layers.2.spare.weight": torch.ones(4, 4)}, folder / "model.safetensors", {"format": "pt"})


def _with_another_config(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"moe_intermediate_size": 12', '"moe_intermediate_size": 16'))


def _quantised(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace("{", '{"quantization_config": {"quant_method": "fp8"},', 1))


def _of_an_unknown_family(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"qwen3_moe"', '"gpt_neox"'))


@pytest.mark.parametrize(
    ("damage", "shards", "message"),
    [
        (_without_the_end, "5GB", "model.safetensors: has"),
        (_without_a_shard, "20KB", "missing, although model.safetensors.index.json names it"),
        (_without_a_tensor, "5GB", "`model.layers.2.self_attn.q_proj.weight` is missing"),
        (_with_one_tensor_more, "5GB", "`model.layers.2.spare.weight` has no place"),
        (_with_another_config, "5GB", "where it asks for"),
        (_quantised, "5GB", "quantised"),
        (_of_an_unknown_family, "5GB", "`gpt_neox` is not supported"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_stops_the_run_before_it_begins(
    tmp_path: Path, damage: Callable[[Path], None], shards: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint("qwen3_moe", tmp_path / "qwen3_moe", shards=shards)
    path = recipe(tmp_path, "qwen3_moe")
    damage(tmp_path / "qwen3_moe")
    assert smoe(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text
    assert not list(tmp_path.glob("run/checkpoints/*"))

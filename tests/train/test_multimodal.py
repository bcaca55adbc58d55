"""End to end: a pretrained multimodal checkpoint learns to draw, and can still be asked; text families get eyes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from smoe_cli.cli.main import run as smoe
from smoe_cli.model.io import load_model
from tests.families.tiny import MULTIMODAL_FAMILIES, write_checkpoint
from tests.model.pretrained import data_around, experts_of, split
from tests.model.seeing import DRAW, ERNIE, FRESH, LATENTS, OWN, READ, picture
from tests.model.test_vision import written
from tests.train.runs import run as train_tiny

SPLIT_POOLS = [
    {"name": "text", "modalities": ["text"], "experts": 8, "select": list(range(8))},
    {"name": "sight", "modalities": ["vit"], "experts": 6, "select": list(range(8, 14))},
    {"name": "generation", "modalities": ["vae"], "experts": 2, "select": "rest"},
]


def write_recipe(folder: Path, family: str) -> Path:
    """Two steps of reading, then two of reading and drawing, from the checkpoint in `folder`/checkpoint."""
    checkpoint = write_checkpoint(family, folder / "checkpoint")
    phase: dict[str, Any] = {"steps": 2, "tokens_per_step": 128, "learning_rate": {"default": 1e-3}}
    data = data_around(
        {"pretrained": {"path": "./checkpoint"}},
        SPLIT_POOLS if family == ERNIE else split(checkpoint, list(range(experts_of(checkpoint) - 2))),
        **{
            "model.vision": OWN if family in MULTIMODAL_FAMILIES else FRESH,
            "model.latents": LATENTS,
            "data.sources": {"prose": {"kind": "python-docs", "task": "lm"}, "read": READ, "draw": DRAW},
            "phases": [
                {**phase, "name": "understanding", "mixture": {"prose": 1, "read": 4}, "freeze": ["*.generation", "latents"]},
                {**phase, "name": "joint", "mixture": {"prose": 1, "read": 4, "draw": 4}},
            ],
            "training.sampling": {"prompts": ["1"], "steps": 2},
            "training.activation_checkpointing": True,
            "evaluation.tasks": [{"task": "rendered-ocr", "source": "read", "questions": 4}],
        },
    )
    if family in ("qwen3_moe", "qwen3_vl_moe"):
        data["model"]["shared"] = "none"
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


@pytest.mark.parametrize("family", [*MULTIMODAL_FAMILIES, "qwen3_moe"])
def test_train_generate_answer(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, family)
    monkeypatch.chdir(tmp_path)
    assert smoe(["train", str(recipe), "--run-dir", "run"]) == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(torch.isfinite(torch.tensor(line["loss/total"])) for line in lines)
    assert any("loss/flow" in line for line in lines[2:])
    assert sum(line["tokens/vit"] for line in lines) > 0
    assert (tmp_path / "run/samples/step-00000004.png").is_file()
    (result,) = [json.loads(path.read_text()) for path in (tmp_path / "run/eval").glob("joint-*.json")]
    assert result["total"] == 4
    shutil.rmtree(tmp_path / "checkpoint")
    capsys.readouterr()
    picture(0).save("photo.png")
    assert smoe(["generate", "run", "--image", "photo.png", "--prompt", "?", "--max-new-tokens", "3"]) == 0
    assert smoe(["generate", "run", "--prompt", "12", "--steps", "2", "--out", "drawn"]) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 1
    model = load_model(tmp_path / "run/model")[0]
    assert not any(torch.isnan(p).any() for p in model.parameters())


@pytest.mark.parametrize("encoder", ["clip-with-text", "dinov2-registers"])
def test_pretrained_eyes_learn(tmp_path: Path, encoder: str) -> None:
    """Also where some of an encoder's tensors take no part in its patch features (CLIP's last norm, DINOv2's mask token)."""
    written(encoder, tmp_path / "encoder")
    vision = {"family": "pretrained", "path": str(tmp_path / "encoder")}
    folder = train_tiny(tmp_path, **{"model.vision": vision})
    model = load_model(folder / "model")[0]
    before = load_file(tmp_path / "encoder/model.safetensors")
    name = "embeddings.patch_embedding.weight" if "clip" in encoder else "embeddings.patch_embeddings.projection.weight"
    (original,) = (tensor for key, tensor in before.items() if key.endswith(name))
    assert model.vision is not None
    moved = (dict(model.vision.named_parameters())[name] - original).abs().max()
    assert 0 < moved < 0.1, "trained, from where the checkpoint stood"

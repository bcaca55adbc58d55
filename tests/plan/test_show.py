"""The plan in the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smoe_cli.plan import Source, compile_plan
from smoe_cli.plan.provenance import provenance
from smoe_cli.plan.show import show
from tests.families.conftest import Written
from tests.plan.pretrained import RISING, backbone_of, profile_of, recipe_of
from tests.plan.recipes import recipe


def shown(width: int = 80, encoding: str = "utf-8", processes: int = 1, **changes: Any) -> str:
    made = recipe(**changes)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    show(compile_plan(made, processes), made, Console(file=stream, width=width, highlight=False))
    stream.flush()
    return raw.getvalue().decode(encoding)


def row(text: str, label: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith(label))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_is_cut_or_wider_than_the_terminal(width: int) -> None:
    text = shown(width, training={"precision": "bf16", "ema": {"decay": 0.9}})
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_the_numbers_of_the_plan_are_there() -> None:
    text = shown()
    assert "22.8K parameters, 12.4K active for a text token, 50 steps, 4.48K tokens" in text
    assert "added to the backbone by the split: 0" in text
    assert row(text, "understanding") == ["understanding", "text,", "vit", "0-5", "6", "2"]
    assert row(text, "latents") == ["latents", "9", "5.21K", "5.21K"]
    assert row(text, "trainable parameters") == ["trainable", "parameters", "21.5K", "22.8K"]
    assert "shield shared ← vae (path): 0, 0.1 from step 10" in text
    assert "cosine decay to 0.1 of the peak" in text


def test_frozen_is_not_a_rate_of_zero() -> None:
    text = shown(**{"phases.0.learning_rate": {"shared": 0.0, "default": 1e-3}})
    table = text[text.index("Learning rates") :]
    assert row(table, "vision") == ["vision", "frozen", "1e-4"]
    assert row(table, "shared") == ["shared", "0", "1e-4"]


def test_experts_that_differ_by_layer() -> None:
    text = shown(**{"model.groups.0.select": [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7]]})
    assert "differ by layer" in text


def test_many_phases_get_several_tables() -> None:
    one = recipe().phases[1].model_dump()
    text = shown(phases=[{**one, "name": f"a-rather-long-name-{i}"} for i in range(5)])
    assert text.count("Learning rates") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_a_terminal_without_blocks_gets_ascii() -> None:
    assert shown(encoding="ascii").isascii()


def test_processes_are_named() -> None:
    assert "Memory of one device" in shown()
    assert "Memory of each of 2 devices" in shown(processes=2)


def described(folder: Path, width: int = 100, **changes: Any) -> str:
    made = recipe_of(folder, **changes)
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(compile_plan(made), made, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pretrained_backbone_is_named(written: Written) -> None:
    folder = written("glm4_moe")
    text = described(folder, width=200)
    assert f"backbone: glm4_moe from {folder}, 2 layers with experts, layer 0 without" in text
    assert "added to the backbone by the split: 0" in text
    assert "left out" not in text
    assert row(text, "fixed") == ["fixed", "4", "16"]  # selection biases, which are active for nobody
    assert "backbone: qwen2_moe with fresh weights, 2 layers with experts" in shown()


def test_what_is_left_out(written: Written) -> None:
    text = described(written("qwen2_moe"), **{"model.shared": "none"})
    assert "left out: the checkpoint's shared experts, 5.86K parameters" in text
    assert "always on" not in text
    backbone = dataclasses.replace(backbone_of(written("glm4_moe")), left_out=("model.layers.3",))
    made = recipe_of(written("glm4_moe"))
    lines = provenance(compile_plan(made, source=Source(backbone)), made)
    assert "left out, as transformers does not build it: model.layers.3" in lines


def test_promotion_and_what_the_split_keeps(written: Written, tmp_path: Path) -> None:
    folder, path = written("olmoe"), tmp_path / "p.json"
    path.write_text(json.dumps(profile_of(backbone_of(folder), {"text": RISING, "vae": RISING}).to_dict()))
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 5, "select": "most-activated"},
        {"name": "generation", "modalities": ["vae"], "experts": 2},
    ]
    text = described(folder, **{"model.profile": str(path), "model.shared": {"promote": 1}, "model.groups": groups})
    assert "promoted in every layer: 8 → 7 routed + 1 always on; top-2 → 1 + 1" in text
    table = text[text.index("What the split keeps") :]
    assert row(table, "text") == ["text", "understanding", "91.7%", "97.0%"]
    assert row(table, "vae") == ["vae", "(generation)", "generation", "30.6%", "33.9%"]
    assert row(text, "shared") == ["shared", "text,", "vit,", "vae", "always", "on:", "7", "1", "1"]


def test_promoted_experts_that_differ_by_layer(written: Written, tmp_path: Path) -> None:
    folder, path = written("olmoe"), tmp_path / "p.json"
    turned = (RISING[0], RISING[1][::-1], RISING[2])
    path.write_text(json.dumps(profile_of(backbone_of(folder), {"text": turned}).to_dict()))
    groups = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 7}]
    text = described(folder, **{"model.profile": str(path), "model.shared": {"promote": 1}, "model.groups": groups})
    assert "always on: differ by layer" in text


def test_shared_experts_serve_only_modalities_that_the_model_has(written: Written) -> None:
    changes: dict[str, Any] = {
        "model.latents": None,
        "model.groups": [{"name": "all", "modalities": ["text", "vit"], "experts": 8}],
        "data.sources.draw": None,
        "phases.0.mixture": {"docs": 1, "read": 1},
        "phases.1.mixture": {"docs": 1, "read": 1},
        "training.sampling": None,
    }
    text = described(written("glm4_moe"), **changes)
    assert row(text, "shared") == ["shared", "text,", "vit", "always", "on"]


def test_upcycling_and_mounting(written: Written) -> None:
    text = described(written("llama"), width=200)
    assert "upcycled, 3 layers with experts" in text
    assert "every expert is a copy of its layer's feed-forward, its output divided by 2" in text
    assert "the model starts as the dense one" in text
    assert "added to the backbone by the copies: 92.9K" in text
    groups = [
        {"name": "text", "modalities": ["text", "vit"], "experts": 8},
        {"name": "vae", "modalities": ["vae"], "experts": 16, "mount": {"group": "text", "noise": 0.01}},
    ]
    text = described(written("olmoe"), **{"model.groups": groups})
    assert "added to the backbone by mounted copies: 56.8K" in text
    assert "copied from text, 2 times, noise 0.01" in text


def test_pools_are_named(written: Written) -> None:
    text = described(written("ernie4_5_vl_moe"))
    assert "0-7 (text_moe)" in text
    assert "8-15 (vision_moe)" in text

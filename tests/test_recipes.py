"""Every shipped recipe, found by walking the folder: valid, planned, and built without allocating its weights."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

from smoe_cli.families import open_checkpoint, read_backbone
from smoe_cli.model.build import check_against_plan
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.weights import saved_tensors
from smoe_cli.plan import compile_plan
from smoe_cli.plan.profile import Profile
from smoe_cli.recipe import load
from tests.families.tiny import write_checkpoint

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what recipes begin with, under the paths that they name: made as their comments say, or a tiny stand-in."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write = runpy.run_path(str(ROOT / "recipes" / "splits" / "start.py"))["write"]
    write(0, str(folder / "runs" / "split-start"))
    write(1, str(folder / "runs" / "split-plain"))
    sha256 = read_backbone(open_checkpoint(folder / "runs" / "split-plain")).sha256
    counts = tuple(tuple((7 * expert + layer) % 32 for expert in range(32)) for layer in range(4))
    used = {"text": counts, "vit": counts[::-1]}
    masses = {modality: tuple(tuple(map(float, row)) for row in rows) for modality, rows in used.items()}
    profile = Profile("glm4v_moe", sha256, (0, 1, 2, 3), 32, 4, {"text": 124, "vit": 124}, used, masses)
    (folder / "runs" / "split-profile.json").write_text(json.dumps(profile.to_dict()), encoding="utf-8")
    write_checkpoint("llama", folder / "checkpoints" / "smollm2")
    return folder


def test_there_are_recipes() -> None:
    assert {"quickstart", "symbiotic-30b-a3b", "24-8"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_builds_what_its_plan_says(path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoints)
    loaded = load(path)
    plan = compile_plan(loaded.recipe)
    with torch.device("meta"):
        model = SymbioticModel(loaded.recipe, plan)
    check_against_plan(model, plan)
    built = sum(tensor.numel() for tensor in saved_tensors(model).values())
    assert built == sum(t.numel for t in plan.tensors) == plan.parameters.total
    assert (plan.parameters.added == 0) == (loaded.recipe.model.backbone.upcycle is None)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_starts_with_what_an_editor_and_a_reader_need(path: Path) -> None:
    lines = path.read_text().splitlines()
    up = "../" * len(path.relative_to(ROOT).parent.parts)
    assert lines[0] == f"# yaml-language-server: $schema={up}schemas/recipe.schema.json"
    comments = [line for line in lines if line.startswith("#")]
    named = path.relative_to(ROOT).as_posix()
    assert any(f"smoe train {named}" in line or f"smoe plan {named}" in line for line in comments)
    assert any("--set" in line for line in comments)

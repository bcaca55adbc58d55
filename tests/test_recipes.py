"""Every shipped recipe, found by walking the folder: valid, planned, and built without allocating its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smoe_cli.model.model import SymbioticModel, check_against_plan
from smoe_cli.plan import compile_plan
from smoe_cli.recipe import load

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"quickstart", "symbiotic-30b-a3b"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_builds_what_its_plan_says(path: Path) -> None:
    loaded = load(path)
    plan = compile_plan(loaded.recipe)
    with torch.device("meta"):
        model = SymbioticModel(loaded.recipe, plan)
    check_against_plan(model, plan)
    assert sum(p.numel() for p in model.parameters()) == sum(t.numel for t in plan.tensors) == plan.parameters.total
    assert plan.parameters.added == 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_starts_with_what_an_editor_and_a_reader_need(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../schemas/recipe.schema.json"
    comments = [line for line in lines if line.startswith("#")]
    assert any(f"smoe train recipes/{path.name}" in line or f"smoe plan recipes/{path.name}" in line for line in comments)
    assert any("--set" in line for line in comments)

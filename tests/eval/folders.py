"""Model folders and run directories of a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smoe_cli.data.special import tokenizer_of
from smoe_cli.model.build import build_model
from smoe_cli.model.io import save_model
from smoe_cli.model.model import SymbioticModel
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.dump import resolved_yaml
from smoe_cli.recipe.models import Recipe
from tests.helpers import tiny

READING_ONLY = {
    "phases": [
        {
            "name": "understanding",
            "steps": 4,
            "tokens_per_step": 256,
            "mixture": {"prose": 1, "read": 3},
            "learning_rate": {"default": 1e-3},
        }
    ],
    "data.sources": {
        "prose": {"kind": "python-docs", "task": "lm"},
        "read": {"kind": "rendered-text", "task": "mmu", "image_size": [8, 16], "length": [1, 2], "question": ""},
    },
    "model.latents": None,
    "model.groups": [{"name": "all", "modalities": ["text", "vit"], "experts": 6}],
}
"""Changes to the tiny recipe that leave it without drawing."""


def build(recipe: Recipe) -> tuple[SymbioticModel, Any]:
    """The recipe's model, random and in evaluation mode, and its tokenizer."""
    plan = compile_plan(recipe)
    return build_model(recipe, plan).eval(), tokenizer_of(recipe, plan)


def write_model(folder: Path, recipe: Recipe | None = None) -> Path:
    """A model folder."""
    recipe = recipe or tiny()
    model, tokenizer = build(recipe)
    save_model(model, tokenizer, folder, resolved_yaml(recipe))
    return folder


def write_run(folder: Path, recipe: Recipe | None = None) -> Path:
    """A run directory, as far as evaluation looks at one."""
    recipe = recipe or tiny()
    write_model(folder / "model", recipe)
    (folder / "recipe.resolved.yaml").write_text(resolved_yaml(recipe), encoding="utf-8")
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n", encoding="utf-8")
    return folder

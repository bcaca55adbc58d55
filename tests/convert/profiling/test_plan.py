"""From a checkpoint through its profile to a plan: the split keeps as many assignments as any split of its sizes can."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.convert.profiling.counting import Settings, profile_model
from smoe_cli.errors import UserError
from smoe_cli.model.weights import open_backbone
from smoe_cli.plan import compile_plan
from smoe_cli.plan.profile import Profile
from smoe_cli.recipe.models import Recipe
from tests.convert.profiling.profiles import write_pictures, write_texts
from tests.families.tiny import write_checkpoint
from tests.model.pretrained import data_around

GROUPS = [
    {"name": "understanding", "modalities": ["text", "vit"], "experts": 6, "select": "most-activated"},
    {"name": "generation", "modalities": ["vae"], "experts": 2, "select": "least-activated"},
]
SEES = {
    "model.vision": {"family": "own", "image_size": [32, 32]},
    "model.latents": {"codec": {"kind": "pixels"}, "image_size": [8, 16], "patch_size": [8, 4]},
    "data.sources": {
        "read": {"kind": "rendered-text", "task": "mmu", "image_size": [32, 32], "length": [1, 2], "question": ""},
        "draw": {"kind": "rendered-text", "task": "t2i", "image_size": [8, 16], "length": [1, 2]},
    },
    "phases": [
        {
            "name": "all",
            "steps": 1,
            "tokens_per_step": 128,
            "mixture": {"read": 1, "draw": 1},
            "learning_rate": {"default": 1e-3},
        }
    ],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Profile]:
    """A multimodal checkpoint, the file of its profile over texts and images, and the profile."""
    folder = tmp_path_factory.mktemp("profile")
    model = write_checkpoint("qwen3_vl_moe", folder / "model")
    data = [str(write_texts(folder / "texts.jsonl", 12)), str(write_pictures(folder / "pictures", 8))]
    out = folder / "profile.json"
    return model, out, profile_model(str(model), data, out, Settings(image_size=(32, 48)))


def recipe_data(model: Path, profile: Path, **changes: Any) -> dict[str, Any]:
    return data_around(
        {"pretrained": {"path": str(model)}},
        GROUPS,
        **{**SEES, "model.shared": "none", "model.profile": str(profile), **changes},
    )


def test_no_split_of_these_sizes_keeps_more(made: tuple[Path, Path, Profile]) -> None:
    model, out, profile = made
    plan = compile_plan(Recipe.model_validate(recipe_data(model, out)))
    best = kept = 0
    for layer in range(len(profile.layers)):
        used = [sum(profile.counts[m][layer][expert] for m in ("text", "vit")) for expert in range(8)]
        best += max(sum(used[expert] for expert in chosen) for chosen in combinations(range(8), 6))
        kept += sum(used[expert] for expert in plan.groups[0].experts[layer])
        assert set(plan.groups[0].experts[layer]) | set(plan.groups[1].experts[layer]) == set(range(8))
    assert kept == best
    total = {m: sum(map(sum, profile.counts[m])) for m in ("text", "vit")}
    assert sum(plan.kept[m]["counts"] * total[m] for m in total) == pytest.approx(best)
    for modality, table in (("text", profile.mass["text"]), ("vit", profile.mass["vit"])):
        inside = sum(table[layer][e] for layer, chosen in enumerate(plan.groups[0].experts) for e in chosen)
        assert plan.kept[modality]["mass"] == pytest.approx(inside / sum(map(sum, table)))


def test_smoe_plan_shows_what_is_kept(
    made: tuple[Path, Path, Profile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from smoe_cli.cli.main import run

    model, out, _ = made
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_data(model, out)), encoding="utf-8")  # JSON is YAML
    assert run(["plan", str(path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert set(plan["kept"]) == {"text", "vit"}
    assert run(["plan", str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"{plan['kept']['text']['counts']:.1%}" in shown


def test_a_profile_of_other_weights_is_refused_where_weights_are_read(made: tuple[Path, Path, Profile], tmp_path: Path) -> None:
    """Base and tuned models have equal names and shapes: the plan, which reads no weights, cannot tell them apart."""
    model, out, _ = made
    same, tuned = tmp_path / "same", tmp_path / "tuned"
    write_checkpoint("qwen3_vl_moe", same, shards="100KB")
    write_checkpoint("qwen3_vl_moe", tuned, seed=1)
    for folder in (model, same, tuned):
        recipe = Recipe.model_validate(recipe_data(folder, out))
        plan = compile_plan(recipe)
        if folder == tuned:
            with pytest.raises(UserError, match="counted on other weights"):
                open_backbone(recipe, plan)
        else:
            open_backbone(recipe, plan)

"""The recipes of docs/pretrained-models-and-images.md stand for models that can be built, with the defaults that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoe_cli.data.special import special_ids, tokenizer_of
from smoe_cli.model.model import SymbioticModel
from smoe_cli.plan import compile_plan
from smoe_cli.recipe import load
from tests.families.tiny import write_checkpoint
from tests.model.conftest import Checkpoints
from tests.model.pretrained import pretrained
from tests.model.seeing import built
from tests.model.test_vision import written

PAGE = (Path(__file__).parents[2] / "docs/pretrained-models-and-images.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
WHOLE = [block for block in BLOCKS if block.startswith("kind:")]
EYES, DRAWS, NAMED = (yaml.safe_load(block)["model"] for block in BLOCKS if block not in WHOLE)


def model_of(checkpoint: Path, keys: dict[str, Any]) -> SymbioticModel:
    changes = {f"model.{key}": value for key, value in keys.items() if key != "backbone"}
    return built(pretrained(checkpoint, **changes))[0]


def test_a_text_model_gets_eyes(checkpoint: Checkpoints, tmp_path: Path) -> None:
    written("siglip", tmp_path / "my-encoder")
    vision = {**EYES["vision"], "path": str(tmp_path / "my-encoder")}
    model = model_of(checkpoint("olmoe"), {**EYES, "vision": vision})
    assert model.plan.vit_tokens == 4
    assert (model.causal_images, model.plan.image_positions) == (False, "shared")


@pytest.mark.parametrize("family", ["glm4v_moe", "qwen3_5_moe"])
def test_a_model_that_sees_learns_to_draw(checkpoint: Checkpoints, family: str) -> None:
    model = model_of(checkpoint(family), DRAWS)
    assert (model.plan.vit_tokens, model.plan.vae_tokens) == (6, 24)
    assert (model.causal_images, model.plan.image_positions) == (True, "mrope")


def test_tokens_can_be_named(checkpoint: Checkpoints) -> None:
    folder = checkpoint("glm4v_moe")
    own = {"path": str(folder), "image_tokens": ["<image>", "</image>"]}  # those that this tokenizer has
    assert NAMED["tokenizer"].keys() == {"kind", *own}
    recipe = pretrained(folder, **{"model.vision": DRAWS["vision"], "model.tokenizer": {**NAMED["tokenizer"], **own}})
    plan = built(recipe)[0].plan
    ids = special_ids(tokenizer_of(recipe, plan), recipe, plan)
    assert (ids.image, ids.image_end) == (3, 4)


@pytest.mark.parametrize(
    ("block", "folder", "family", "phases"),
    [
        (WHOLE[0], "my-moe", "qwen3_moe", ["eyes", "drawing"]),
        (WHOLE[1], "my-vlm", "qwen3_vl_moe", ["drawing", "joint"]),
    ],
    ids=["text", "multimodal"],
)
def test_the_whole_recipes_fit_a_checkpoint(
    block: str, folder: str, family: str, phases: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(family, tmp_path / folder, num_experts=128, num_experts_per_tok=8)
    (tmp_path / "recipe.yaml").write_text(block, encoding="utf-8")
    plan = compile_plan(load(tmp_path / "recipe.yaml").recipe)
    assert [phase.name for phase in plan.phases] == phases

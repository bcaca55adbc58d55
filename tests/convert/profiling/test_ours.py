"""Profiles of models of ours: numbered as in the backbone, and equal to what the model itself records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_cli.convert.profiling.counting import Settings, profile_model
from smoe_cli.convert.profiling.ours import OwnCounter, is_ours
from smoe_cli.data.special import tokenizer_of
from smoe_cli.errors import UserError
from smoe_cli.model.build import build_model
from smoe_cli.model.io import save_model
from smoe_cli.plan import compile_plan
from smoe_cli.plan.profile import read_profile
from smoe_cli.recipe.dump import resolved_yaml
from smoe_cli.recipe.models import Recipe
from tests.convert.profiling.profiles import samples, write_pictures, write_texts
from tests.families.tiny import write_checkpoint
from tests.helpers import tiny
from tests.model.pretrained import pretrained, upcycled

PHASE = {"name": "all", "steps": 1, "tokens_per_step": 128, "learning_rate": {"default": 1e-3}}
SEES: dict[str, Any] = {
    "model.vision": {"family": "own", "image_size": [32, 48]},
    "data.sources": {
        "read": {"kind": "rendered-text", "task": "mmu", "image_size": [32, 48], "length": [1, 2], "question": ""}
    },
    "phases": [{**PHASE, "mixture": {"read": 1}}],
}
DRAWS: dict[str, Any] = {
    "model.latents": {"codec": {"kind": "pixels"}, "image_size": [8, 16], "patch_size": [8, 4]},
    "data.sources": {"draw": {"kind": "rendered-text", "task": "t2i", "image_size": [8, 16], "length": [1, 2]}},
    "phases": [{**PHASE, "mixture": {"draw": 1}}],
}


def group(experts: int, *modalities: str, **more: Any) -> dict[str, Any]:
    """A group of a recipe, named after its modalities."""
    return {"name": "-".join(modalities), "modalities": list(modalities), "experts": experts, **more}


def write(folder: Path, recipe: Recipe) -> Path:
    """A model folder with the recipe's first weights."""
    plan = compile_plan(recipe)
    save_model(build_model(recipe, plan), tokenizer_of(recipe, plan), folder, resolved_yaml(recipe))
    return folder


def test_the_numbers_are_those_that_the_model_records(tmp_path: Path) -> None:
    counter = OwnCounter(write(tmp_path / "model", tiny()), Settings()).load()
    documents = [counter.tokens(sample) for sample in samples(8, images=True)]
    tokens, counts, _ = counter.count(documents).tables()
    batches: list[Any] = []
    forward = counter.model.forward
    counter.model.forward = lambda batch, **options: batches.append(batch) or forward(batch, **options)  # type: ignore[method-assign]
    counter.count(documents)
    with torch.no_grad():
        routing = forward(batches[0]).routing
    for layer, recorded in enumerate(routing):
        columns = [expert for group in counter.plan.groups for expert in group.experts[layer]]
        for row, modality in enumerate(("text", "vit")):
            assert [recorded.counts_ME[row, columns.index(expert)].item() for expert in range(6)] == list(
                counts[modality][layer]
            )
    assert set(tokens) == {"text", "vit"}


def test_pictures_to_draw_are_counted_as_vae(tmp_path: Path) -> None:
    model = write(tmp_path / "run" / "model", tiny())
    (tmp_path / "run" / "recipe.resolved.yaml").write_text("", encoding="utf-8")
    recipe = str(model / "smoe.yaml")
    profile = profile_model(str(tmp_path / "run"), [recipe], tmp_path / "a.json", Settings(limit=6))
    assert list(profile.modalities) == ["text", "vit", "vae"]
    for row in profile.counts["vae"]:
        assert {expert for expert, count in enumerate(row) if count} <= {1, 4}  # the generation group
    again = profile_model(str(model), [recipe], tmp_path / "b.json", Settings(limit=6, batch_size=4))
    assert again.counts == profile.counts
    assert read_profile(tmp_path / "a.json") == profile


@pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v3", "qwen3_moe"])
def test_an_unchanged_model_has_the_profile_of_its_checkpoint(family: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(family, tmp_path / family)
    data = [str(write_texts(tmp_path / "texts.jsonl", 9))]
    plain = profile_model(str(checkpoint), data, tmp_path / "plain.json", Settings())
    ours = write(tmp_path / "ours", pretrained(checkpoint, [group(8, "text")]))
    profile = profile_model(str(ours), data, tmp_path / "ours.json", Settings())
    assert profile.counts == plain.counts
    assert (profile.family, profile.sha256, profile.layers) == (plain.family, plain.sha256, plain.layers)
    for ours_row, plain_row in zip(profile.mass["text"], plain.mass["text"], strict=True):
        assert ours_row == pytest.approx(plain_row, abs=1e-4)


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "ernie4_5_vl_moe"])
def test_so_does_one_that_sees_images(family: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(family, tmp_path / family)
    groups = [group(8, "text", "vit")]
    if family.startswith("ernie"):
        groups = [group(8, "text", select=list(range(8))), group(8, "vit", select=list(range(8, 16)))]
    recipe = pretrained(checkpoint, groups, **SEES)
    data = [str(write_pictures(tmp_path / "pictures", 6)), str(write_texts(tmp_path / "texts.jsonl", 4))]
    plain = profile_model(str(checkpoint), data, tmp_path / "plain.json", Settings(image_size=(32, 48)))
    profile = profile_model(str(write(tmp_path / "ours", recipe)), data, tmp_path / "ours.json", Settings())
    assert profile.tokens == plain.tokens
    assert profile.counts == plain.counts


def test_an_upcycled_model_is_numbered_by_its_copies(tmp_path: Path) -> None:
    dense = write_checkpoint("llama", tmp_path / "llama")
    ours = write(tmp_path / "ours", upcycled(dense, [group(4, "text")], {"experts": 4}))
    profile = profile_model(str(ours), [str(write_texts(tmp_path / "t.jsonl", 4))], tmp_path / "p.json", Settings())
    assert (profile.experts, profile.top_k) == (4, 2)
    assert all(sum(row) == profile.tokens["text"] * 2 for row in profile.counts["text"])


def test_copies_of_experts_have_no_numbers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen2_moe", tmp_path / "model")
    groups = [group(8, "text"), group(8, "vae", mount={"group": "text"})]
    ours = write(tmp_path / "ours", pretrained(checkpoint, groups, **DRAWS))
    with pytest.raises(UserError, match="group `vae` are copies"):
        OwnCounter(ours, Settings())


def test_promoted_experts_are_not_chosen(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen3_moe", tmp_path / "model", num_experts_per_tok=3)
    out = tmp_path / "profile.json"
    profile_model(str(checkpoint), [str(write_texts(tmp_path / "t.jsonl", 4))], out, Settings())
    recipe = pretrained(checkpoint, [group(7, "text")], **{"model.shared": {"promote": 1}, "model.profile": str(out)})
    with pytest.raises(UserError, match="always on"):
        OwnCounter(write(tmp_path / "ours", recipe), Settings())


def test_what_a_model_lacks_is_named(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen2_moe", tmp_path / "model")
    ours = write(tmp_path / "ours", pretrained(checkpoint, [group(8, "text")]))
    assert is_ours(ours)
    assert not is_ours(checkpoint)
    pictures = [str(write_pictures(tmp_path / "pictures", 2))]
    with pytest.raises(UserError, match=r"has images, and .* has no vision encoder"):
        profile_model(str(ours), pictures, tmp_path / "p.json", Settings())
    with pytest.raises(UserError, match="--image-size: no effect"):
        profile_model(str(ours), pictures, tmp_path / "p.json", Settings(image_size=(8, 8)))
    with pytest.raises(UserError, match="--dtype bfloat16"):
        profile_model(str(ours), pictures, tmp_path / "p.json", Settings(dtype="bfloat16"))

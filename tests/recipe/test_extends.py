"""`extends`: what is inherited, and how mistakes in it are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.recipe import RecipeError, load
from tests.recipe.helpers import COMPLETE, RECIPES, edited


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def message(path: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(path)
    return str(caught.value)


def test_mappings_merge_lists_replace_null_removes() -> None:
    base, child = load(RECIPES / "complete.yaml").recipe, load(RECIPES / "child.yaml").recipe
    assert child.name == "child"
    assert child.description == base.description
    assert child.model.backbone.scratch == base.model.backbone.scratch.model_copy(update={"num_experts": 6})
    assert child.model.vision == base.model.vision
    assert child.model.latents is None
    assert list(child.data.sources) == ["prose", "read"]
    assert child.data.sources["read"] == base.data.sources["read"]
    assert [phase.name for phase in child.phases] == ["read"]
    assert child.training.ema == base.training.ema
    assert child.training.sampling.prompts == ()


def test_same_as_writing_it_out(folder: Path) -> None:
    write(folder, base=COMPLETE, child="extends: base.yaml\nseed: 5\n", whole=edited(COMPLETE, ("seed: 1", "seed: 5")))
    assert load("child.yaml").recipe == load("whole.yaml").recipe


def test_chain_of_files_in_other_folders(folder: Path) -> None:
    (folder / "deep").mkdir()
    write(folder, base=COMPLETE, child="extends: deep/middle.yaml\nname: child\n")
    write(folder / "deep", middle="extends: ../base.yaml\nseed: 2\nname: middle\n")
    recipe = load("child.yaml").recipe
    assert (recipe.name, recipe.seed, recipe.data.sequence_length) == ("child", 2, 64)


def test_overrides_come_last(folder: Path) -> None:
    write(folder, base=COMPLETE, child="extends: base.yaml\nseed: 2\n")
    assert load("child.yaml", ["seed=3", "data.sequence_length=128"]).recipe.seed == 3


def test_resolved_recipe_stands_alone(folder: Path) -> None:
    loaded = load(RECIPES / "child.yaml")
    write(folder, resolved=loaded.resolved_yaml())
    assert load("resolved.yaml").recipe == loaded.recipe


def test_mistakes_are_shown_where_they_are(folder: Path) -> None:
    write(folder, base=edited(COMPLETE, ("steps: 300", "steps: -1")), child="extends: base.yaml\nseed: x\nnam: x\n")
    assert (
        message("child.yaml")
        == """\
child.yaml:2:7: error: expected a whole number from 0 to 2,147,483,647, found the text `x`
  2 | seed: x
    |       ^

child.yaml:3:1: error: unknown key `nam`
  3 | nam: x
    | ^^^
  help: did you mean `name`?

base.yaml:58:12: error: expected a whole number of 1 or more, found the number `-1`
  58 |     steps: -1
     |            ^^

3 errors"""
    )


def test_missing_key_is_shown_in_the_recipe_itself(folder: Path) -> None:
    write(folder, base="model: {backbone: {upcycle: {}}}\n", child="# A child.\n\nextends: base.yaml\nname: child\n")
    assert message("child.yaml").startswith(
        "child.yaml:4:1: error: the recipe lacks the keys `kind`, `version`, `data` and `phases`\n  4 | name: child\n"
    )
    assert "base.yaml:1:20: error: `model.backbone.upcycle` lacks the keys `from` and `experts`" in message("child.yaml")


CHANGED = """\
extends: base.yaml
model:
  vision:
    family: pretrained
    path: owner/name
"""
REMOVED = ("image_size", "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def test_keys_of_another_family_are_said_to_be_inherited(folder: Path) -> None:
    write(folder, base=COMPLETE, child=CHANGED)
    assert message("child.yaml").endswith("\n\n6 errors")
    assert message("child.yaml").startswith(
        """\
base.yaml:31:5: error: unknown key `image_size`
  31 |     image_size: [16, 48]
     |     ^^^^^^^^^^
  help: `image_size` is a key of family `vit`, `siglip_vision_model` or `own`; it comes from base.yaml, and child.yaml:4 sets \
another `family`: `image_size: null` there removes it
"""
    )


def test_null_removes_keys_of_another_family(folder: Path) -> None:
    write(folder, base=COMPLETE, child=CHANGED + "".join(f"    {key}: null\n" for key in REMOVED))
    vision = load("child.yaml").recipe.model.vision
    assert vision is not None
    assert (vision.family, vision.path) == ("pretrained", "owner/name")


def test_null_for_a_key_that_is_needed_or_unknown_is_an_error(folder: Path) -> None:
    write(folder, base=COMPLETE, child="extends: base.yaml\nseed: null\nnam: null\n")
    assert "child.yaml:2:7: error: expected a whole number from 0 to 2,147,483,647, found nothing" in message("child.yaml")
    assert "child.yaml:3:1: error: unknown key `nam`" in message("child.yaml")


def test_a_key_of_another_family_in_the_recipe_itself_is_not_inherited(folder: Path) -> None:
    write(folder, base=COMPLETE, child="extends: base.yaml\nmodel: {vision: {path: owner/name}}\n")
    assert message("child.yaml").endswith("  help: `path` is a key of family `pretrained`")


def test_a_family_changed_by_an_override(folder: Path) -> None:
    write(folder, base=COMPLETE)
    flags = ["model.vision.family=pretrained", "model.vision.path=owner/name"]
    with pytest.raises(RecipeError, match=r"`--set model.vision.patch_size=null` removes it"):
        load("base.yaml", flags)
    vision = load("base.yaml", [*flags, *(f"model.vision.{key}=null" for key in REMOVED)]).recipe.model.vision
    assert vision is not None
    assert vision.family == "pretrained"


def test_file_that_does_not_exist(folder: Path) -> None:
    write(folder, base=COMPLETE, child="name: child\nextends: bass.yaml\n")
    assert (
        message("child.yaml")
        == """\
child.yaml:2:10: error: `bass.yaml` does not exist
  2 | extends: bass.yaml
    |          ^^^^^^^^^
  help: did you mean `base.yaml`?"""
    )


def test_circle(folder: Path) -> None:
    write(folder, a="extends: b.yaml\n", b="extends: c.yaml\n", c="seed: 1\nextends: ./a.yaml\n")
    assert (
        message("a.yaml")
        == """\
c.yaml:2:10: error: `extends` goes in a circle: a.yaml → b.yaml → c.yaml → a.yaml
  2 | extends: ./a.yaml
    |          ^^^^^^^^"""
    )


def test_circle_of_one(folder: Path) -> None:
    write(folder, a="extends: a.yaml\n")
    assert "goes in a circle: a.yaml → a.yaml" in message("a.yaml")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("[a.yaml, b.yaml]", "a list of 2"),
        ("{a: b}", "a mapping"),
        ("3", "the number `3`"),
        ("", "nothing"),
        ('""', "empty text"),
    ],
)
def test_not_a_path(folder: Path, value: str, found: str) -> None:
    write(folder, child=f"{COMPLETE}\nextends: {value}\n")
    assert f"error: `extends` takes the path of one recipe, relative to this file, not {found}" in message("child.yaml")


def test_folder(folder: Path) -> None:
    write(folder, child="extends: .\n")
    assert message("child.yaml").startswith("child.yaml:1:10: error: `.` is a folder, not a recipe")


def test_broken_base(folder: Path) -> None:
    write(folder, base="a: [1\n", child="extends: base.yaml\n")
    assert message("child.yaml").startswith("base.yaml:1:4: error: the `[` opened here is not closed")

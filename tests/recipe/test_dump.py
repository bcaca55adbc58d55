"""The resolved recipe: complete, stable, and equal when it is loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smoe_cli.recipe import Recipe, load
from smoe_cli.recipe.dump import resolved_yaml
from smoe_cli.recipe.files import MAX_BYTES
from smoe_cli.recipe.syntax import bad_character
from tests.recipe.helpers import RECIPES

NAMES = ["complete", "text", "datasets", "child", "pretrained", "upcycled"]


def again(recipe: Recipe, folder: Path) -> Recipe:
    path = folder / "resolved.yaml"
    path.write_text(resolved_yaml(recipe), encoding="utf-8", newline="")
    return load(path).recipe


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    loaded = load(RECIPES / f"{name}.yaml")
    recipe = again(loaded.recipe, tmp_path)
    assert recipe == loaded.recipe
    assert resolved_yaml(recipe) == loaded.resolved_yaml()


def test_text(tmp_path: Path) -> None:
    """What is written for the smallest recipe: every default that has an effect, in the order of the language."""
    assert load(RECIPES / "text.yaml").resolved_yaml() == (RECIPES / "text.resolved.yaml").read_text(encoding="utf-8")


def test_every_key_is_there_unless_it_has_no_effect() -> None:
    """`complete.yaml` has all parts, so that only keys of other tasks are left out."""
    recipe = load(RECIPES / "complete.yaml").recipe
    missing = set(differences(recipe.model_dump(), yaml.safe_load(resolved_yaml(recipe))))
    assert missing == {
        "model.backbone.pretrained",
        "model.backbone.upcycle",
        "model.profile",
        "model.shared.promote",
        "data.sources.prose.on_bad_row",
        "data.sources.prose.caption_dropout",
        "data.sources.prose.question",
        "data.sources.read.on_bad_row",
        "data.sources.read.caption_dropout",
        "data.sources.read.captions",
        "data.sources.draw.on_bad_row",
        "data.sources.draw.question",
        "phases.0.loss.flow",
    }


def differences(whole: Any, part: Any, path: str = "") -> list[str]:
    """Paths of keys that `part` lacks."""
    if isinstance(whole, dict):
        lacking = [f"{path}{key}" for key in whole if key not in part]
        return lacking + [d for key in whole if key in part for d in differences(whole[key], part[key], f"{path}{key}.")]
    if isinstance(whole, tuple):
        assert len(whole) == len(part)
        return [d for index, item in enumerate(whole) for d in differences(item, part[index], f"{path}{index}.")]
    return []


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text("ab \n'\":#-", max_size=20),
    st.sampled_from(
        ["yes", "null", "~", "1e6", "012", "1:30", "0x1F", "3_000", "<<", "=", "- a", "a: b", "&a", "*a", "!x", "%x"]
    ),
    st.sampled_from(
        ["two\nlines", "two\nlines\n", " \nx", "x \ny", "\n", "a\n\nb\n", "x\u2028y", "tab\there", "é", "x" * 300, "# no"]
    ),
).filter(lambda text: not bad_character(text))
FRACTIONS = st.floats(0, 1)
RATES = st.floats(0, 1e6, allow_nan=False)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """`complete.yaml` with values of every type drawn at random."""
    data = load(RECIPES / "complete.yaml").recipe.model_dump(exclude_unset=True)
    data["description"] = draw(TEXTS)
    data["seed"] = draw(st.integers(0, 2**31 - 1))
    data["model"]["groups"][0]["select"] = draw(
        st.one_of(st.sampled_from(["first", "last", "random"]), st.permutations(range(8)).map(lambda order: tuple(order[:6])))
    )
    data["model"]["latents"]["shift"] = draw(st.floats(1e-6, 1e6))
    data["data"]["sources"]["read"]["question"] = draw(st.one_of(st.none(), TEXTS.filter(lambda text: len(text.encode()) < 40)))
    data["data"]["sources"]["draw"]["noise"] = draw(FRACTIONS)
    phase = data["phases"][1]
    phase["learning_rate"] = draw(st.dictionaries(TEXTS, RATES, min_size=1, max_size=4))
    phase["freeze"] = tuple(draw(st.lists(TEXTS, max_size=3)))
    factors = st.dictionaries(st.integers(1, 999), FRACTIONS, max_size=4).map(lambda steps: {0: 0.5, **steps})
    phase["shields"][0]["factor"] = draw(st.one_of(FRACTIONS, factors))
    data["training"]["clip_norm"] = draw(st.one_of(st.none(), st.floats(1e-9, 1e9)))
    data["training"]["activation_checkpointing"] = draw(st.booleans())
    data["training"]["sampling"]["prompts"] = tuple(draw(st.lists(TEXTS, min_size=1, max_size=4)))
    return Recipe.model_validate(data, strict=True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes())
def test_round_trip_of_any_recipe(recipe: Recipe, tmp_path: Path) -> None:
    assert len(resolved_yaml(recipe)) < MAX_BYTES
    assert again(recipe, tmp_path) == recipe

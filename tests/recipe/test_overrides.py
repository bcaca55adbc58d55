"""`--set`: what it changes. Its mistakes are in `mistakes/overrides.txt`."""

from __future__ import annotations

from typing import Any

import pytest

from smoe_cli.recipe import RecipeError, load
from smoe_cli.recipe.models import Ema
from tests.recipe.helpers import RECIPES


def changed(*overrides: str, recipe: str = "complete.yaml") -> Any:
    return load(RECIPES / recipe, overrides).recipe


def test_number() -> None:
    assert changed("phases.0.steps=7").phases[0].steps == 7
    assert changed("phases.0.steps=1e3").phases[0].steps == 1000
    assert changed("phases.1.learning_rate.latents=2e-5").phases[1].learning_rate["latents"] == 2e-5


def test_only_that_value_changes() -> None:
    before, after = changed(), changed("phases.0.steps=7")
    assert after.phases[0].model_copy(update={"steps": before.phases[0].steps}) == before.phases[0]
    assert (after.model, after.data, after.phases[1], after.training) == (
        before.model,
        before.data,
        before.phases[1],
        before.training,
    )


def test_text() -> None:
    assert changed("description=a: b", "description=two words").description == "two words"
    assert changed("description='a: b'").description == "a: b"
    assert changed("training.sampling.prompts.1='7'").training.sampling.prompts == ("12", "7")


def test_value_with_equals_signs() -> None:
    assert changed("description=a=b=c").description == "a=b=c"


def test_lists_and_mappings_replace() -> None:
    assert changed("model.groups.0.select=[1, 2, 3, 4, 5, 6]").model.groups[0].select == (1, 2, 3, 4, 5, 6)
    assert changed("phases.1.mixture={read: 1, prose: 1, draw: 2}").phases[1].mixture == {"read": 1, "prose": 1, "draw": 2}
    assert changed("phases.1.shields=[]").phases[1].shields == ()


def test_key_that_was_not_written() -> None:
    assert changed("training.optimizer.weight_decay=0").training.optimizer.weight_decay == 0
    assert changed("training.ema.decay=0.5", recipe="text.yaml").training.ema == Ema(decay=0.5)


@pytest.mark.parametrize("role", ["experts.*", "experts.generation", "latents", "a.b.c"])
def test_rest_of_the_path_is_the_key_where_keys_are_free(role: str) -> None:
    assert changed(f"phases.1.learning_rate.{role}=0.5").phases[1].learning_rate[role] == 0.5


def test_steps_of_a_shield_are_numbers() -> None:
    assert changed("phases.1.shields.0.factor.500=0.2").phases[1].shields[0].factor == {0: 0.0, 500: 0.2}
    assert changed("phases.1.shields.0.factor=0.3").phases[1].shields[0].factor == 0.3
    assert changed("phases.1.shields.0.factor=0.3", "phases.1.shields.0.factor.0=1").phases[1].shields[0].factor == {0: 1.0}


def test_null_removes_a_mapping() -> None:
    assert changed("training.checkpoints=null").training.checkpoints.every == 500
    assert changed("training.ema=null").training.ema is None


def test_later_wins() -> None:
    assert changed("seed=3", "seed=4").seed == 4


def test_later_goes_on_from_earlier() -> None:
    source = "data.sources.more={kind: python-docs, task: lm}"
    assert changed(source, "phases.0.mixture.more=2").phases[0].mixture["more"] == 2


def test_text_and_path_of_the_recipe_stay_as_written() -> None:
    loaded = load(RECIPES / "complete.yaml", ["seed=9"])
    assert loaded.text == (RECIPES / "complete.yaml").read_text(encoding="utf-8")
    assert "seed: 9\n" in loaded.resolved_yaml()


@pytest.mark.parametrize(
    "text", ["", "=", "=3", ".=3", "a", "seed", "seed.=3", "a\nb=3", "seed=\n\n[", "seed=&a *a", "\x00=1", "seed=\x00"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        changed(text)
    assert str(caught.value).startswith("--set ")

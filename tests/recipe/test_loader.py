"""What `load` gives, and problems that are found after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.recipe import Loaded, Problem, Recipe, RecipeError, load
from tests.recipe.helpers import COMPLETE, RECIPES


def test_loaded() -> None:
    loaded = load(str(RECIPES / "complete.yaml"))
    assert isinstance(loaded, Loaded)
    assert isinstance(loaded.recipe, Recipe)
    assert loaded.path == RECIPES / "complete.yaml"
    assert loaded.text == COMPLETE


@pytest.mark.parametrize("name", ["complete", "text", "datasets", "child"])
def test_examples_are_valid(name: str) -> None:
    assert load(RECIPES / f"{name}.yaml").recipe.name == name


def test_values() -> None:
    recipe = load(RECIPES / "datasets.yaml").recipe
    scratch = recipe.model.backbone.scratch
    assert (recipe.seed, scratch.vocab_size, scratch.rope_theta, scratch.initializer_range) == (16, 50304, 1e6, 0.01)
    assert recipe.model.groups[0].select == ((0, 1, 2, 3), (1, 3, 5, 7))
    long = recipe.data.sources["paint-long"]
    assert long == recipe.data.sources["paint"].model_copy(update={"path": "more-images/"})


def test_later_problems_are_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(COMPLETE, encoding="utf-8")
    loaded = load("recipe.yaml", ["phases.0.freeze=[visoin]"])
    problems = [
        Problem(("phases", 1, "learning_rate", "latents"), "wrong role", "right role", key=True),
        Problem(("phases", 0, "freeze", 0), "unknown role"),
        Problem(("training", "optimizer", "eps"), "a default"),
    ]
    error = loaded.error(problems)
    assert isinstance(error, RecipeError)
    assert isinstance(error, UserError)
    assert sorted(error.problems, key=str) == sorted(problems, key=str)
    assert (
        str(error)
        == """\
recipe.yaml:70:7: error: wrong role
  70 |       latents: 1e-3
     |       ^^^^^^^
  help: right role

recipe.yaml:83:1: error: a default
  83 | training:
     | ^^^^^^^^

--set phases.0.freeze=[visoin]: error: unknown role
  | phases.0.freeze=[visoin]
  |                  ^^^^^^

3 errors"""
    )


def test_problems_have_paths() -> None:
    with pytest.raises(RecipeError) as caught:
        load(RECIPES / "complete.yaml", ["phases.0.stepz=3", "model.groups.0.select=frist"])
    assert [(p.path, p.key) for p in caught.value.problems] == [
        (("phases", 0, "stepz"), True),
        (("model", "groups", 0, "select"), False),
    ]


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999"])
@pytest.mark.parametrize(
    "path", ["model.backbone.scratch.rope_theta", "training.clip_norm", "training.sampling.guidance", "training.optimizer.eps"]
)
def test_numbers_are_finite(path: str, value: str) -> None:
    with pytest.raises(RecipeError, match="expected a number"):
        load(RECIPES / "complete.yaml", [f"{path}={value}"])

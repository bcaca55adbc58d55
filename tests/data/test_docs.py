"""The examples of docs/your-own-data.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoe_cli.data.files import is_local
from smoe_cli.data.loader import PhaseLoader
from smoe_cli.data.special import tokenizer_of
from smoe_cli.errors import UserError
from smoe_cli.plan import compile_plan
from smoe_cli.recipe import load
from smoe_cli.recipe.models import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SOURCES = [text for language, text in BLOCKS if language == "yaml" and "smoe/recipe" not in text]


@pytest.fixture
def page(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, in a folder of their own, and its scripts that make data have been run."""
    monkeypatch.chdir(quiet)
    for language, text in BLOCKS:
        name = re.match(r"# (\S+\.(?:py|yaml))\n", text)
        if name:
            Path(name[1]).write_text(text, encoding="utf-8")
        if language == "python" and name and name[1].startswith("make"):
            exec(compile(text, name[1], "exec"), {})
    return quiet


def _first_step(recipe_file: str) -> dict[str, int]:
    recipe = load(recipe_file).recipe
    plan = compile_plan(recipe)
    return next(iter(PhaseLoader(recipe, plan, 0, tokenizer_of(recipe, plan)))).counts


def test_the_page_has_examples() -> None:
    assert len(SOURCES) >= 8


def test_the_recipe_feeds_all_three_tasks(page: Path) -> None:
    counts = _first_step("own.yaml")
    assert min(counts["targets"], counts["images/vit"], counts["images/vae"]) > 0


@pytest.mark.parametrize("text", SOURCES)
def test_each_source_can_take_its_place_in_the_recipe(page: Path, text: str) -> None:
    recipe = yaml.safe_load(Path("own.yaml").read_text())
    sources: dict[str, Any] = yaml.safe_load(text)
    assert sources.keys() <= recipe["data"]["sources"].keys()
    recipe["data"]["sources"] |= sources
    Path("changed.yaml").write_text(yaml.safe_dump(recipe))
    load("changed.yaml")
    if all(is_local(source.get("path", "./none")) for source in sources.values()):
        assert _first_step("changed.yaml")["documents"] > 0


def test_the_way_to_look_at_batches_works(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(Path("look.py").read_text(), "look.py", "exec"), {})
    shown = capsys.readouterr().out
    assert "Which colour?\\nred<eos>'" in shown
    assert "predicts 'red<eos>'" in shown
    assert "Article " in shown
    assert "'captions': {'drawn': " in shown


def test_the_error_on_the_page_is_the_error(page: Path) -> None:
    Path("my-data/images/orange.png").unlink()
    written = yaml.safe_load(Path("own.yaml").read_text())
    written["phases"][0]["mixture"] = {"questions": 1}
    recipe = Recipe.model_validate(written)
    plan = compile_plan(recipe)
    with pytest.raises(UserError) as caught:
        next(iter(PhaseLoader(recipe, plan, 0, tokenizer_of(recipe, plan))))
    assert f"    {caught.value.message}\n" in PAGE

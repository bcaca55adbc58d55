"""What the README and the docs show is true: recipes load, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from smoe_cli.cli.main import COMMANDS, cli
from smoe_cli.plan import compile_plan
from smoe_cli.recipe import load
from smoe_cli.recipe.models import Recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def parts_of_the_recipe_page() -> tuple[list[str], list[str]]:
    """The blocks down to the phases, and those that show other words. Variations are apart."""
    page = [b for b in blocks(ROOT / "docs/writing-a-recipe.md", "yaml") if not b.startswith("extends:")]
    end = next(number for number, block in enumerate(page) if block.startswith("phases:")) + 1
    return page[:end], page[end:]


def test_the_blocks_of_the_recipe_page_are_a_recipe(tmp_path: Path) -> None:
    whole, _ = parts_of_the_recipe_page()
    (tmp_path / "recipe.yaml").write_text("".join(whole))
    plan = compile_plan(load(tmp_path / "recipe.yaml").recipe)
    assert [phase.name for phase in plan.phases] == ["understanding", "joint"]


@pytest.mark.parametrize("block", parts_of_the_recipe_page()[1], ids=lambda block: " ".join(block.split()[:3]))
def test_the_other_blocks_of_the_recipe_page_are_words_of_the_language(block: str) -> None:
    """Each replaces keys of the page's recipe."""
    recipe = yaml.safe_load("".join(parts_of_the_recipe_page()[0]))
    for part, keys in yaml.safe_load(block).items():
        recipe[part] = {**recipe.get(part, {}), **keys}
    Recipe.model_validate(recipe)


def test_the_variation_of_the_recipe_page_loads(tmp_path: Path) -> None:
    (variation,) = [b for b in blocks(ROOT / "docs/writing-a-recipe.md", "yaml") if b.startswith("extends:")]
    (tmp_path / "quickstart.yaml").write_text((ROOT / "recipes/quickstart.yaml").read_text())
    (tmp_path / "variation.yaml").write_text(variation)
    recipe = load(tmp_path / "variation.yaml").recipe
    assert recipe.training.ema is None


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                for part in line.split("#")[0].split("&&"):
                    if (words := shlex.split(part))[:1] == ["smoe"]:
                        found.append((page.name, words[1:]))
    return found


def test_there_are_commands() -> None:
    assert {words[0] for _, words in commands()} >= {"train", "plan", "validate", "report"}


@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else value
)
def test_a_command_that_is_shown_is_understood(page: str, words: list[str]) -> None:
    """Command, options and the number of arguments; paths need not exist."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    with command.make_context(words[0], list(words[1:])):
        pass


def test_the_table_of_commands_is_complete() -> None:
    shown = set(re.findall(r"^\| `smoe (\w+)", (ROOT / "README.md").read_text(), re.M))
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_in_the_readme_are_words_of_the_language(page: Path) -> None:
    """Dotted paths such as `training.sampling` name keys that exist."""
    for path in re.findall(r"`((?:model|data|training|evaluation)\.(?!json)[a-z_.]+)`", page.read_text()):
        node: object = Recipe
        for key in path.split("."):
            fields = getattr(node, "model_fields", None)
            if fields is None:
                break
            assert key in fields, path
            annotation = fields[key].annotation
            options = [annotation, *getattr(annotation, "__args__", ())]
            node = next((option for option in options if hasattr(option, "model_fields")), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page: Path) -> None:
    assert not re.findall(r"^[A-Z_]{8,}$", page.read_text(), re.M)
    assert "@@" not in page.read_text()

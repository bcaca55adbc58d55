"""What users see when they make a mistake: the whole text, for every kind of mistake.

The files in `mistakes/` hold one case after another:

    ## name
    @ a recipe, if not recipes/complete.yaml
    - a stretch of the recipe
    + what is written instead
    $ an override (--set)

    the expected error

`SMOE_UPDATE_EXPECTED=1 pytest tests/recipe/test_mistakes.py` rewrites the expected texts; read the difference.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from smoe_cli.recipe import RecipeError, load
from tests.recipe.helpers import RECIPES, edited

FILES = sorted((Path(__file__).parent / "mistakes").glob("*.txt"))


@dataclass
class Case:
    name: str
    header: list[str] = field(default_factory=list)
    edits: list[tuple[str, str]] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    base: str = "complete.yaml"
    expected: str = ""


def read_cases(path: Path) -> list[Case]:
    return [read_case(block) for block in path.read_text(encoding="utf-8").split("## ")[1:]]


def read_case(block: str) -> Case:
    head, _, expected = block.partition("\n\n")
    name, *header = head.rstrip("\n").split("\n")
    case = Case(name, header, expected=expected.rstrip("\n"))
    old: list[str] = []
    new: list[str] = []
    for line in [*header, ""]:
        if old and new and not line.startswith("+"):
            case.edits.append(("\n".join(old), "\n".join(new)))
            old, new = [], []
        if line.startswith("@"):
            case.base = line[2:]
        elif line.startswith("$"):
            case.overrides.append(line[2:])
        elif line:
            (old if line.startswith("-") else new).append(line[2:])
    return case


def outcome(case: Case, folder: Path) -> str:
    (folder / "recipe.yaml").write_text(
        edited((RECIPES / case.base).read_text(encoding="utf-8"), *case.edits), encoding="utf-8"
    )
    with pytest.raises(RecipeError) as caught:
        load("recipe.yaml", case.overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


CASES = [pytest.param(path, case, id=f"{path.stem}: {case.name}") for path in FILES for case in read_cases(path)]


def test_there_are_many_cases() -> None:
    assert len(CASES) > 100
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("path", "case"), CASES)
def test_mistake(path: Path, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = outcome(case, tmp_path)
    if os.environ.get("SMOE_UPDATE_EXPECTED"):
        blocks = [
            "\n".join([f"## {other.name}", *other.header, "", text if other.name == case.name else other.expected])
            for other in read_cases(path)
        ]
        path.write_text("\n\n".join(blocks).rstrip("\n") + "\n", encoding="utf-8")
    else:
        assert text == case.expected

"""The JSON Schema: accepts what loads, refuses unknown keys, describes everything."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from smoe_cli.recipe import load
from smoe_cli.recipe.parse import parse
from smoe_cli.recipe.schema import DIALECT, schema, schema_text
from smoe_cli.recipe.tree import Origin, to_data
from tests.recipe.helpers import RECIPES

ROOT = Path(__file__).parents[2]
SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLES = sorted([*RECIPES.glob("*.yaml"), *(ROOT / "recipes").glob("*.yaml")])


def as_json(value: Any) -> Any:
    """As an editor sees it: lists, and text as keys."""
    if isinstance(value, dict):
        return {str(key): as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, tuple | list) else value


def document(path: Path) -> Any:
    tree, _ = parse(Origin(str(path), path.read_text(encoding="utf-8")))
    assert tree is not None
    return as_json(to_data(tree))


def complaints(data: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(data)]


def test_is_a_schema() -> None:
    assert SCHEMA["$schema"] == DIALECT == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_written_schema_is_up_to_date() -> None:
    assert (ROOT / "schemas" / "recipe.schema.json").read_text(encoding="utf-8") == schema_text(), "run `smoe schema`"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_accepts_recipes(path: Path) -> None:
    assert complaints(document(path)) == []


@pytest.mark.parametrize("name", ["complete", "text", "datasets", "pretrained", "upcycled"])
def test_accepts_resolved_recipes(name: str) -> None:
    resolved = yaml.safe_load(load(RECIPES / f"{name}.yaml").resolved_yaml())
    assert complaints(as_json(resolved)) == []


def mappings(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    if isinstance(data, dict):
        yield path
    for step, value in steps:
        yield from mappings(value, (*path, step))


FREE = ("mixture", "learning_rate", "factor", "sources")
"""Mappings whose keys are free."""


@pytest.mark.parametrize("name", ["complete", "datasets", "child", "pretrained", "upcycled"])
def test_refuses_an_unknown_key_anywhere(name: str) -> None:
    data = document(RECIPES / f"{name}.yaml")
    paths = [path for path in mappings(data) if not path or path[-1] not in FREE]
    assert len(paths) >= 8
    for path in paths:
        changed = copy.deepcopy(data)
        holder = changed
        for step in path:
            holder = holder[step]
        holder["frobnicate"] = 1
        assert complaints(changed), path


@pytest.mark.parametrize("key", ["kind", "model", "phases"])
def test_top_level_keys_are_required_only_without_extends(key: str) -> None:
    data = document(RECIPES / "complete.yaml")
    del data[key]
    assert complaints(data)
    assert complaints({**data, "extends": "base.yaml"}) == []


def test_inner_keys_are_required_only_without_extends() -> None:
    data = document(RECIPES / "complete.yaml")
    del data["model"]["vision"]["hidden_size"]
    assert complaints(data)
    assert complaints({**data, "extends": "base.yaml"}) == []


def test_entries_of_lists_are_always_whole() -> None:
    data = document(RECIPES / "complete.yaml")
    del data["phases"][0]["steps"]
    assert complaints({**data, "extends": "base.yaml"})


def test_bad_values_are_refused_with_extends_too() -> None:
    assert complaints({"extends": "base.yaml", "seed": -1})
    assert complaints({"extends": "base.yaml", "data": {"sources": {"Bad Name": {}}}})
    assert complaints({"extends": 3})


def test_every_property_is_described() -> None:
    for name, definition in SCHEMA["$defs"].items():
        for key, value in definition["properties"].items():
            assert value.get("description", "").strip(), f"{name}.{key}"
        assert definition["description"].strip(), name

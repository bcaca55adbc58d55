"""The JSON Schema of recipes (draft 2020-12), for editors.

A recipe that `extends` another may leave out any key outside of lists (which replace as a whole), and may write `null` to
remove a mapping; so mappings have a second definition, `<name>-part`, that allows this.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from smoe_cli.recipe.models import Recipe

DIALECT = GenerateJsonSchema.schema_dialect
ID = "urn:smoe:recipe:1"
_PART = "-part"
_REF = "#/$defs/"
_EXTENDS = {
    "type": "string",
    "minLength": 1,
    "description": "Another recipe, relative to this file. Mappings merge, `null` removes one, lists and other values replace.",
}


def schema() -> dict[str, Any]:
    """The schema as plain data."""
    whole = Recipe.model_json_schema()
    definitions = whole.pop("$defs")
    body = _tidy(whole)
    definitions = {name: _tidy(definition) for name, definition in definitions.items()}
    for definition in (body, *definitions.values()):
        _describe(definition, definitions)
    parts = {f"{name}{_PART}": _part(definition) for name, definition in definitions.items()}
    recipe_part = _part(body)
    recipe_part["properties"] = {"extends": _EXTENDS, **recipe_part["properties"]}
    definitions |= {"Recipe": body, **parts, f"Recipe{_PART}": recipe_part}
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "smoe recipe",
        "description": body["description"],
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"{_REF}Recipe{_PART}"},
        "else": {"$ref": f"{_REF}Recipe"},
        "$defs": _reachable(definitions, "Recipe", f"Recipe{_PART}"),
    }


def schema_text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> Any:
    """Without the titles that pydantic makes of names, and with the line breaks of docstrings taken out."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            tidy[key] = {name: _tidy(inner) for name, inner in value.items()}
        elif key == "description" and isinstance(value, str):
            tidy[key] = " ".join(value.split())
        elif key not in ("title", "discriminator"):
            tidy[key] = _tidy(value)
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    return tidy


def _describe(definition: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Gives a property the description of the mapping it refers to, which pydantic leaves out where both have the same."""
    for value in definition["properties"].values():
        if "$ref" in value:
            value.setdefault("description", definitions[value["$ref"].removeprefix(_REF)]["description"])


def _part(node: Any) -> Any:
    """A copy that requires no key, down to every mapping it refers to, but for those in lists."""
    if isinstance(node, list):
        return [_part(item) for item in node]
    if not isinstance(node, dict):
        return node
    part: dict[str, Any] = {}
    for key, value in node.items():
        if key == "$ref":
            part["anyOf"] = [{"$ref": f"{value}{_PART}"}, {"type": "null"}]
        elif key == "oneOf":  # without their tag, several options may fit
            part["anyOf"] = _part(value)
        elif key == "properties":
            part[key] = {name: _part(inner) for name, inner in value.items()}
        elif key in ("items", "prefixItems"):
            part[key] = value
        elif key != "required":
            part[key] = _part(value)
    return part


def _reachable(definitions: dict[str, Any], *roots: str) -> dict[str, Any]:
    """The definitions that the roots need, in alphabetical order."""
    needed: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _references(definitions[name])
    return {name: definitions[name] for name in sorted(needed)}


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].removeprefix(_REF)] if isinstance(node.get("$ref"), str) else []
    return own + [name for value in node.values() for name in _references(value)]

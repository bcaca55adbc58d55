"""A recipe as YAML with every default written out, in the order of the language; loads to an equal recipe."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel

from smoe_cli.recipe.effects import idle
from smoe_cli.recipe.models import Recipe
from smoe_cli.recipe.nodes import attributes_of
from smoe_cli.recipe.scalars import resolve
from smoe_cli.recipe.tree import Path

_FIRST = ("kind", "task")
_LINE = r"[!-~](?:[ -~]*[!-~])?"
_PARAGRAPHS = re.compile(rf"(?:{_LINE}\n+)+{_LINE}\n?|{_LINE}\n")


def resolved_yaml(recipe: Recipe) -> str:
    """Keys that nothing reads are left out: written, they would be errors."""
    skip = set(idle(recipe))
    parts = [f"# {recipe.name}, with every default written out."]
    for key, value in _plain(recipe, (), skip).items():
        section = isinstance(value, dict | list)
        text = yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        parts.append("\n" * section + text.rstrip("\n"))
    return "\n".join(parts) + "\n"


def _plain(value: Any, path: Path, skip: set[Path]) -> Any:
    if isinstance(value, BaseModel):
        attributes = attributes_of(type(value))
        keys = sorted(attributes, key=lambda key: key not in _FIRST)
        return {key: _plain(getattr(value, attributes[key]), (*path, key), skip) for key in keys if (*path, key) not in skip}
    if isinstance(value, dict):
        return {key: _plain(item, (*path, key), skip) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item, (*path, index), skip) for index, item in enumerate(value)]
    return value


class _Dumper(yaml.SafeDumper):
    """Short lists on one line, quotes around text that this language would read as something else, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # indents lists below their key


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if _PARAGRAPHS.fullmatch(text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    quoted = resolve(text) != text or text == "<<" or not text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    simple = all(not isinstance(item, dict) and not (isinstance(item, str) and len(item) > 20) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=simple)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)

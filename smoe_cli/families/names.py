"""Applies the `on_disk` rules of an anatomy to one name, in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from smoe_cli.families.anatomy import Anatomy, OnDisk

_SAME = OnDisk("", "")


def published(names: Iterable[str], anatomy: Anatomy) -> bool:
    """Whether files use the names of the family's authors (`OnDisk.hub`), where transformers writes others."""
    rules = [_regex(rule.hub) for rule in anatomy.on_disk if rule.hub]
    return bool(rules) and any(rule.fullmatch(name) for rule in rules for name in names)


def memory_names(disk: str, anatomy: Anatomy, hub: bool = False) -> list[tuple[str, OnDisk]]:
    """The names in memory that a tensor on disk goes to, each with the rule that says how. Usually one."""
    found: list[tuple[str, OnDisk]] = []
    for rule in anatomy.on_disk:
        if found and rule.disk != found[0][1].disk:
            break
        if (name := _renamed(disk, (hub and rule.hub) or rule.disk, rule.memory)) is not None:
            found.append((name, rule))
    return found or [(disk, _SAME)]


def disk_name(memory: str, anatomy: Anatomy, hub: bool = False) -> tuple[str, OnDisk]:
    """The name on disk that a tensor in memory comes from, with the rule that says how."""
    for rule in anatomy.on_disk:
        if (name := _renamed(memory, rule.memory, (hub and rule.hub) or rule.disk)) is not None:
            return name, rule
    return memory, _SAME


def _renamed(name: str, old: str, new: str) -> str | None:
    match = _regex(old).fullmatch(name)
    if match is None:
        return None
    parts = iter(match.groups())
    return re.sub("#", lambda _: next(parts), new) + next(parts, "")


@lru_cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\#", r"(\d+)") + ("(.+)" if pattern.endswith(".") else ""))

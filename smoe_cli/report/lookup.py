"""Reading JSON written by another version, or by a run that died: nothing is taken for granted."""

from __future__ import annotations

from typing import Any


def get(value: Any, *path: str | int) -> Any:
    """The value at `path` inside nested mappings and lists, or None where the path ends early."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list | tuple) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def mapping(value: Any, *path: str | int) -> dict[str, Any]:
    """The mapping at `path`, or an empty one."""
    found = get(value, *path)
    return found if isinstance(found, dict) else {}


def listing(value: Any, *path: str | int) -> list[Any]:
    """The list at `path`, or an empty one."""
    found = get(value, *path)
    return list(found) if isinstance(found, list | tuple) else []


def mappings(value: Any, *path: str | int) -> list[dict[str, Any]]:
    """The mappings of the list at `path`."""
    return [item for item in listing(value, *path) if isinstance(item, dict)]


def moe_layers(plan: Any, count: int) -> list[int]:
    """Numbers of the decoder layers that have experts; 0, 1, … where the plan does not give as many as are asked for."""
    numbers = [number for number in listing(plan, "moe_layers") if isinstance(number, int)]
    return numbers if len(numbers) == count else list(range(count))

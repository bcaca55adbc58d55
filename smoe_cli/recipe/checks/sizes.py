"""Help for numbers that must be multiples of others."""

from __future__ import annotations


def multiples(value: int, step: int) -> str:
    """The multiples on both sides of a value."""
    below, above = value // step * step, (value // step + 1) * step
    return f"{below} or {above} would do" if below else f"{above} would do"

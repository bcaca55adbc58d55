"""Recipes to load in tests: whole ones from `recipes/`, and edited copies of them."""

from __future__ import annotations

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
COMPLETE = (RECIPES / "complete.yaml").read_text(encoding="utf-8")


def edited(text: str, *edits: tuple[str, str]) -> str:
    """A text with parts replaced; each must occur exactly once, so that a test cannot edit nothing or the wrong place."""
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text

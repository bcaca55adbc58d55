"""Pieces of sentences."""

from __future__ import annotations

from typing import Any

import pytest

from smoe_cli.recipe.words import all_of, count, did_you_mean, found, nearest, one_of, quote

KEYS = ["learning_rate", "steps", "tokens_per_step", "colours", "renormalise"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("learning_rat", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("LearningRate", "learning_rate"),
        ("Steps", "steps"),
        ("step", "steps"),
        ("colors", "colours"),
        ("renormalize", "renormalise"),
        ("frobnicate", None),
        ("", None),
        (7, None),
        ("steps" * 10_000, None),
    ],
)
def test_nearest(word: object, expected: str | None) -> None:
    assert nearest(word, KEYS) == expected


def test_lists() -> None:
    assert one_of([]) == ""
    assert one_of(["a"]) == "`a`"
    assert one_of(["a", "b", "c"]) == "`a`, `b` or `c`"
    assert all_of(["a", "b"]) == "`a` and `b`"


def test_did_you_mean() -> None:
    assert did_you_mean("red", ["read", "draw"], "sources") == "did you mean `read`?"
    assert did_you_mean("xyz", ["read", "draw"], "sources") == "sources: `read`, `draw`"


def test_count() -> None:
    assert [count(n, "step") for n in (0, 1, 2, 1300)] == ["0 steps", "1 step", "2 steps", "1,300 steps"]
    assert [count(n, "entry") for n in (1, 2)] == ["1 entry", "2 entries"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "nothing"),
        (True, "`true`"),
        (3, "the number `3`"),
        (3.0, "the number `3`"),
        (0.1, "the number `0.1`"),
        (2e-5, "the number `2e-05`"),
        (0.123456789, "the number `0.123456789`"),
        (1e20, "the number `1e+20`"),
        (float("inf"), "an infinite number"),
        (float("nan"), "`nan`"),
        ("", "empty text"),
        ("a b", "the text `a b`"),
        ((), "an empty list"),
        ((1, 2), "a list of 2"),
        ({}, "an empty mapping"),
        ({1: 2}, "a mapping"),
    ],
)
def test_found(value: Any, expected: str) -> None:
    assert found(value) == expected


def test_quote() -> None:
    assert quote("two\nlines") == "`two\\nlines`"
    assert quote('say "x"') == '`say "x"`'
    assert quote("\x1b[31m") == "`\\u001b[31m`"
    assert quote("é文\U0001f600") == "`é文\U0001f600`"
    assert quote("x" * 100) == f"`{'x' * 39}…`"

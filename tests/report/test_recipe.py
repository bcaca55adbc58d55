"""The recipe as written: nothing lost, comments and keys marked."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.report.recipe import code, comment_start, highlight
from tests.report.synthetic import EXAMPLE


def plain(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html))


def test_every_line_is_there_and_numbered_by_its_anchor() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    html = code(text, "recipe")
    assert plain(html).splitlines() == text.rstrip().splitlines()
    assert 'id="recipe-5"><b>name</b>: read-then-draw</span>' in html


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))))
def test_highlighting_changes_no_character(line: str) -> None:
    assert plain(highlight(line)) == line


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        ("# all", "# all"),
        ("a: 1  # why", "# why"),
        ("a: b#c", ""),
        ('a: "# no"', ""),
        ("a: ['#1', 2] # yes", "# yes"),
        ("it: don't # yes", "# yes"),
        ("", ""),
    ],
)
def test_comments(line: str, comment: str) -> None:
    assert line[comment_start(line) :] == comment


def test_keys() -> None:
    assert highlight("  - name: x") == "  - <b>name</b>: x"
    assert highlight("http://x: y").startswith("http")


def test_a_huge_file_is_cut_at_a_line_and_says_so() -> None:
    html = code("key: value\n" * 40_000, "recipe")
    assert len(plain(html)) < 210_000
    assert plain(html).endswith("cut here for the report")

"""How a mistake is drawn."""

from __future__ import annotations

import pytest

from smoe_cli.recipe.diagnostics import Diagnostic, RecipeError, render
from smoe_cli.recipe.tree import Origin, Span


def drawn(line: str, column: int, width: int, flag: bool = False) -> list[str]:
    """The excerpt of a mistake on line 10."""
    origin = Origin("--set x" if flag else "x.yaml", line if flag else "\n" * 9 + line, flag=flag)
    return render(Diagnostic(Span(origin, 0 if flag else 9, column, width), "wrong")).split("\n")


def test_parts() -> None:
    origin = Origin("recipes/x.yaml", "a:\n  bcd: 1\n")
    assert (
        render(Diagnostic(Span(origin, 1, 2, 3), "unknown key `bcd`", "did you mean `b`?"))
        == """\
recipes/x.yaml:2:3: error: unknown key `bcd`
  2 |   bcd: 1
    |   ^^^
  help: did you mean `b`?"""
    )


def test_whole_file() -> None:
    assert render(Diagnostic(Origin("x.yaml", ""), "no such file")) == "x.yaml: error: no such file"


def test_a_point_gets_one_caret() -> None:
    assert drawn("a: 1", 4, 0) == ["x.yaml:10:5: error: wrong", "  10 | a: 1", "     |     ^"]


def test_flag_has_no_line_number() -> None:
    assert drawn("a.b=1", 2, 1, flag=True) == ["--set x: error: wrong", "  | a.b=1", "  |   ^"]


def test_empty_line_is_not_shown() -> None:
    assert drawn("", 0, 0) == ["x.yaml:10:1: error: wrong"]


def test_wide_and_combining_characters() -> None:
    """The caret stands below what it points at, in cells of the terminal; the column counts characters."""
    assert drawn("文字: x", 4, 1) == ["x.yaml:10:5: error: wrong", "  10 | 文字: x", "     |       ^"]
    assert drawn("e\u0301: x", 4, 1) == ["x.yaml:10:5: error: wrong", "  10 | e\u0301: x", "     |    ^"]


def test_tabs_are_kept() -> None:
    assert drawn("a:\tx", 3, 1)[1:] == ["  10 | a:\tx", "     |   \t^"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert drawn("a: \x1b[31mred", 3, 1)[1] == "  10 | a: \N{REPLACEMENT CHARACTER}[31mred"


@pytest.mark.parametrize("column", [0, 5, 60, 200, 395])
def test_long_lines_are_cut_around_the_mistake(column: int) -> None:
    line = "".join(chr(ord("a") + n % 26) for n in range(400))
    _, shown, carets = drawn(line, column, 5)
    assert len(shown) < 130
    start = carets.index("^")
    assert carets.count("^") == 5
    assert shown[start : start + 5] == line[column : column + 5]


def test_width_beyond_the_window() -> None:
    _, shown, carets = drawn("x" * 500, 10, 490)
    assert len(carets) <= len(shown)


def test_order_and_count() -> None:
    base, recipe, flag = Origin("b", "a\nb", order=1), Origin("r", "a\nb\nc"), Origin("--set a", "a", order=9, flag=True)
    marks = [Span(flag, 0, 0), Span(base, 0, 0), Span(recipe, 2, 0), Span(recipe, 1, 1), Span(recipe, 1, 0)]
    error = RecipeError(Diagnostic(mark, "wrong") for mark in marks)
    heads = [line for line in str(error).split("\n") if "error" in line]
    assert heads == [
        "r:2:1: error: wrong",
        "r:2:2: error: wrong",
        "r:3:1: error: wrong",
        "b:1:1: error: wrong",
        "--set a: error: wrong",
        "5 errors",
    ]
    assert len(error.problems) == 5


def test_one_error_is_not_counted() -> None:
    assert "1 error" not in str(RecipeError([Diagnostic(Origin("x", ""), "wrong")]))

"""Trees: values, places, anchors, limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.recipe.parse import MAX_DEPTH, MAX_NODES, Unreadable, parse
from smoe_cli.recipe.tree import Key, Marks, Origin, Span, to_data


def data(text: str) -> object:
    tree, notes = parse(Origin("x.yaml", text))
    assert notes == []
    return to_data(tree) if tree else None


def place(text: str, path: tuple[Key, ...], key: bool = False) -> tuple[int, int, int]:
    origin = Origin("x.yaml", text)
    tree, _ = parse(origin)
    assert tree is not None
    span = Marks(tree, Span(origin, 0, 0)).locate(path, key)
    return span.line, span.column, span.width


def test_values() -> None:
    text = 'a: 1\nb: [x, "1", 2.5, null]\nc: {d: true, 3: e}\nf: |\n  two\n  lines\n? g\n: h\n'
    assert data(text) == {
        "a": 1,
        "b": ("x", "1", 2.5, None),
        "c": {"d": True, 3: "e"},
        "f": "two\nlines\n",
        "g": "h",
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "\ufeff".removeprefix("\ufeff")])
def test_nothing(text: str) -> None:
    assert data(text) is None


def test_odd_keys_are_taken_as_written() -> None:
    assert data("true: 1\n1.50: 2\nnull: 3\n'4': 5\n") == {"true": 1, "1.50": 2, "null": 3, "4": 5}


TEXT = """\
a:
  b: [10, twenty, {c: 30}]
  d:
    - e: "quoted"
    - f:
g: >
  long
"""


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        (("a",), False, (0, 0, 1)),  # spreads over lines: its key
        (("a",), True, (0, 0, 1)),
        (("a", "b"), False, (1, 5, 21)),
        (("a", "b"), True, (1, 2, 1)),
        (("a", "b", 0), False, (1, 6, 2)),
        (("a", "b", 1), False, (1, 10, 6)),
        (("a", "b", 2, "c"), True, (1, 19, 1)),
        (("a", "b", 2, "c"), False, (1, 22, 2)),
        (("a", "d", 0), False, (3, 6, 1)),  # an entry of a list: its first key
        (("a", "d", 0, "e"), False, (3, 9, 8)),
        (("a", "d", 1, "f"), False, (4, 6, 1)),  # nothing was written: its key
        (("a", "d", 1, "missing"), False, (4, 6, 1)),
        (("a", "missing", "deeper"), False, (0, 0, 1)),
        (("missing",), False, (0, 0, 1)),
        (("a", "b", 7), False, (1, 2, 1)),
        (("g",), False, (5, 3, 1)),
        ((), False, (0, 0, 1)),
    ],
)
def test_places(path: tuple[Key, ...], key: bool, expected: tuple[int, int, int]) -> None:
    assert place(TEXT, path, key) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85"])
def test_places_with_any_line_end(end: str) -> None:
    assert place(f"a: 1{end}{end}b: 2{end}", ("b",)) == (2, 3, 1)


def test_aliases_and_merge_keys() -> None:
    text = "base: &b {x: 1, y: 2}\nlist: &l [1, 2]\none: {<<: *b, y: 3}\ntwo: {y: 4, <<: [*b, {z: 5, x: 6}]}\nagain: *l\n"
    assert data(text) == {
        "base": {"x": 1, "y": 2},
        "list": (1, 2),
        "one": {"x": 1, "y": 3},
        "two": {"x": 1, "y": 4, "z": 5},
        "again": (1, 2),
    }


def test_quoted_merge_key_is_a_key() -> None:
    assert data("'<<': 1") == {"<<": 1}


def stopped(text: str) -> str:
    with pytest.raises(Unreadable) as caught:
        parse(Origin("x.yaml", text))
    return caught.value.diagnostic.message


def test_depth_is_limited() -> None:
    assert data("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert "nested" in stopped("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    assert "nested" in stopped("[" * 100_000)


def test_depth_through_aliases_is_limited() -> None:
    """Each level adds one to the depth of the one before, though none is written deeper than the first."""
    levels = "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, MAX_DEPTH + 2))
    assert "nested" in stopped("a0: &a0 []\n" + levels)


def test_alias_bomb() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20))
    assert "too large" in stopped("a0: &a0 [x]\n" + levels)


def test_many_values() -> None:
    assert "too large" in stopped("[" + "1," * (MAX_NODES + 1) + "]")


@pytest.mark.parametrize("text", ['"\\U7FFFFFFF"', "%YAML 1." + "9" * 5000 + "\n---\na"])
def test_numbers_on_which_the_yaml_library_breaks(text: str) -> None:
    assert "out of range" in stopped(text)


def test_control_character() -> None:
    origin = Origin("x.yaml", "a: 1\nb: x\x07y\n")
    with pytest.raises(Unreadable) as caught:
        parse(origin)
    assert caught.value.diagnostic.where == Span(origin, 1, 4, 1)
    assert "U+0007" in caught.value.diagnostic.message


def test_lone_surrogate() -> None:
    _, notes = parse(Origin("x.yaml", 'a: "\\ud800"'))
    assert ["U+D800" in note.message for note in notes] == [True]


PIECES = st.sampled_from(
    [
        *"abc01 \n\t:-[]{},&*!|>'\"%@`#?.~\\",
        ": ",
        "- ",
        "\n  ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "---\n",
        "...",
        "|-\n",
        "\u00e9",
        "\U0001f600",
        "\\x",
        "\r",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree, _ = parse(Origin("x.yaml", text))
    except Unreadable as error:
        where = error.diagnostic.where
        assert isinstance(where, Span)
        assert 0 <= where.line < len(where.origin.lines)
    else:
        assert tree is None or to_data(tree) is not NotImplemented

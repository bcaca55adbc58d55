"""Files that are no recipes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smoe_cli.recipe import RecipeError, load
from smoe_cli.recipe.files import MAX_BYTES
from tests.recipe.helpers import COMPLETE, RECIPES


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message(content: bytes | None, name: str = "x.yaml") -> str:
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load(name)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_missing() -> None:
    assert message(None) == "x.yaml: error: no such file"


def test_missing_with_a_similar_name() -> None:
    Path("recipes").mkdir()
    Path("recipes/quickstart.yaml").touch()
    assert message(None, "recipes/quikstart.yaml") == (
        "recipes/quikstart.yaml: error: no such file\n  help: did you mean `recipes/quickstart.yaml`?"
    )


def test_folder() -> None:
    Path("recipes").mkdir()
    assert message(None, "recipes") == "recipes: error: this is a folder, not a recipe"
    Path("recipes/a.yaml").touch()
    assert message(None, "recipes") == "recipes: error: this is a folder, not a recipe\n  help: it holds `recipes/a.yaml`"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable() -> None:
    Path("x.yaml").touch(mode=0)
    assert message(None) == "x.yaml: error: this cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["a\0b.yaml", "a" * 300 + ".yaml", "x.yaml/y.yaml"])
def test_impossible_paths(name: str) -> None:
    Path("x.yaml").touch()
    assert "cannot be read" in message(None, name)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# a comment\n", b"---\n", b"null\n", b"\xef\xbb\xbf"])
def test_empty(content: bytes) -> None:
    assert message(content) == "x.yaml: error: the file is empty\n  help: a recipe starts with `kind: smoe/recipe`"


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"- a\n- b\n", "a list of 2"), (b"just text\n", "the text `just text`"), (b"42\n", "the number `42`")],
)
def test_not_a_mapping(content: bytes, found: str) -> None:
    assert f"x.yaml:1:1: error: a recipe is a mapping of `key: value` lines, not {found}" in message(content)


def test_empty_mapping() -> None:
    assert "x.yaml:1:1: error: the recipe lacks the keys `kind`, `version`" in message(b"{}")


def test_latin_1() -> None:
    text = COMPLETE.replace("Reads and draws", "Liest Straßenschilder,").encode("latin-1")
    assert (
        message(text)
        == """\
x.yaml:5:24: error: not UTF-8: the byte 0xDF cannot stand here
  5 | description: Liest Stra\N{REPLACEMENT CHARACTER}enschilder, digits.
    |                        ^
  help: save the file as UTF-8"""
    )


def test_utf_16() -> None:
    assert "not UTF-8" in message(COMPLETE.encode("utf-16"))


def test_binary() -> None:
    assert "the character U+0000 is not allowed" in message(b"PK\x03\x04\x00\x00"[4:])


def test_too_large() -> None:
    assert "larger than" in message(b"#" * (MAX_BYTES + 1))


def test_byte_order_mark_and_windows_line_ends() -> None:
    Path("x.yaml").write_bytes(b"\xef\xbb\xbf" + COMPLETE.replace("\n", "\r\n").encode())
    assert load("x.yaml").recipe == load(RECIPES / "complete.yaml").recipe


def test_endless_file() -> None:
    with pytest.raises(RecipeError, match="larger than"):
        load("/dev/zero")

"""`smoe schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_cli.cli.main import run


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


FILE = Path("schemas/recipe.schema.json")


def test_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert capsys.readouterr().out == f"wrote {FILE}\n"
    assert json.loads(FILE.read_text(encoding="utf-8"))["title"] == "smoe recipe"
    assert [path.name for path in FILE.parent.iterdir()] == [FILE.name]  # no temporary file is left
    assert run(["schema", "--check"]) == 0


def test_writes_elsewhere() -> None:
    assert run(["schema", "--output", "x.json"]) == 0
    assert run(["schema", "--check", "--output", "x.json"]) == 0
    assert not FILE.exists()


@pytest.mark.parametrize("text", ["mine", "{}", "[1]", '{"a": 1}'])
def test_only_a_schema_is_overwritten(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.json").write_text(text, encoding="utf-8")
    assert run(["schema", "--output", "x.json"]) == 2
    assert "x.json: exists and is not a JSON Schema" in capsys.readouterr().err
    assert Path("x.json").read_text(encoding="utf-8") == text
    Path("x.json").write_text('{"$schema": "older"}', encoding="utf-8")
    assert run(["schema", "--output", "x.json"]) == 0


@pytest.mark.parametrize("output", ["file/x.json", "x" * 300])
def test_a_place_that_cannot_be_written(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("mine", encoding="utf-8")
    assert run(["schema", "--output", output]) == 2
    assert f"{output}: cannot be written" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_check_of_a_stale_file(capsys: pytest.CaptureFixture[str]) -> None:
    FILE.parent.mkdir()
    FILE.write_text("{}", encoding="utf-8")
    assert run(["schema", "--check"]) == 1
    assert capsys.readouterr().err == f"error: {FILE} is not up to date\n  help: run `smoe schema`\n"
    assert FILE.read_text(encoding="utf-8") == "{}"


def test_check_of_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "--check"]) == 1
    assert capsys.readouterr().err == f"error: {FILE} does not exist\n  help: run `smoe schema`\n"

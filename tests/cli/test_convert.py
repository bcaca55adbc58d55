"""`smoe convert`, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.cli.main import run
from tests.eval.folders import write_run


def test_a_run_becomes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    capsys.readouterr()
    assert run(["convert", str(folder), str(tmp_path / "out"), "--to", "understanding"]) == 0
    captured = capsys.readouterr()
    for words in ("qwen2_moe, 4 of 6 experts a layer", "left out: latents", "all tensors equal", "equal bit for bit"):
        assert words in captured.out
    assert captured.err == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "README.md",
        "tokenizer.json",
    }

    assert run(["convert", str(folder), str(tmp_path / "out"), "--to", "understanding"]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--to", "understandin"]])
def test_the_target_must_be_known(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(tmp_path), str(tmp_path / "out"), *arguments]) == 2
    assert "understanding" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["file/out", "x" * 300])
def test_a_place_that_cannot_be_written(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert run(["convert", str(folder), str(tmp_path / out), "--to", "understanding"]) == 2
    assert f"{tmp_path / out}: cannot be written" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "file"}


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(tmp_path), str(tmp_path / "out"), "--to", "understanding"]) == 2
    assert "neither a model folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""`smoe convert`, from the command line."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_cli.cli.main import run
from smoe_cli.convert.options import size
from smoe_cli.errors import UserError
from tests.convert.make import write_recipe
from tests.eval.folders import write_run
from tests.families.tiny import write_checkpoint


def test_a_run_becomes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    capsys.readouterr()
    assert run(["convert", str(folder), str(tmp_path / "out"), "--to", "understanding"]) == 0
    captured = capsys.readouterr()
    for words in ("qwen2_moe, ", "4 of 6 a layer", "left out: latents", "SHA-256 equal", "equal bit for bit"):
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


def test_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint("qwen3_moe", tmp_path / "checkpoint")
    recipe = write_recipe(tmp_path / "recipe.yaml", "qwen3_moe", checkpoint)
    capsys.readouterr()
    symbiotic, other, back = (str(tmp_path / name) for name in ("symbiotic", "other", "back"))
    assert run(["convert", str(recipe), symbiotic, "--to", "symbiotic"]) == 0
    assert "symbiotic form of qwen3_moe" in capsys.readouterr().out
    arguments = ["convert", str(checkpoint), other, "--to", "symbiotic", "--recipe", str(recipe)]
    assert run([*arguments, "--dtype", "bf16", "--max-shard-size", "20KB", "--verify", "tensors"]) == 0
    out = capsys.readouterr().out
    assert "logits were not compared (as asked)" in out
    assert len(list(Path(other).glob("*.safetensors"))) > 3
    assert run(["convert", symbiotic, back, "--to", "original"]) == 0
    assert "left out: vision" in capsys.readouterr().out
    assert (Path(back) / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


@pytest.mark.parametrize("arguments", [[], ["--to", "understandin"]])
def test_the_target_must_be_known(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(tmp_path), str(tmp_path / "out"), *arguments]) == 2
    assert "understanding" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("recipe.yaml", ["--to", "symbiotic", "--recipe", "other.yaml"], "is a recipe, and `--recipe` names another"),
        ("checkpoint", ["--to", "symbiotic"], "needs a recipe"),
        ("run", ["--to", "original", "--recipe", "other.yaml"], "goes with `--to symbiotic`"),
        ("recipe.yaml", ["--to", "symbiotic", "--max-shard-size", "5 bananas"], "`5 bananas` is not a size"),
        ("nowhere.yaml", ["--to", "symbiotic"], "nowhere.yaml"),
        ("nowhere", ["--to", "original"], "no such folder"),
    ],
)
def test_command_lines_that_make_no_sense(
    tmp_path: Path, source: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(tmp_path / source), str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "expected"), [("5GB", 5 * 10**9), ("500mb", 5 * 10**8), ("1.5 GiB", 3 * 2**29), ("4096", 4096), ("7kb", 7000)]
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "0", "-1GB", "5 TB2", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="is not a size"):
        size(text)


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


BAR = """
import time
from smoe_cli.convert.progress import bar
with bar("writing", 100, True) as advance:
    advance(60)
    time.sleep(0.2)
"""


def test_a_bar_on_a_terminal_only() -> None:
    assert subprocess.run([sys.executable, "-c", BAR], capture_output=True, check=True).stderr == b""
    screen, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", BAR], stderr=terminal, check=True)
    os.close(terminal)
    assert b"writing" in os.read(screen, 4096)
    os.close(screen)


KILLED = """
import os, signal, sys
from smoe_cli.cli.main import run
from smoe_cli.model.shards import ShardWriter
write, calls = ShardWriter.write, []
def killing(self, name, part):
    calls.append(name)
    if len(calls) == 30:
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    return write(self, name, part)
ShardWriter.write = killing
sys.exit(run(["convert", sys.argv[1], sys.argv[2], "--to", "symbiotic"]))
"""


def test_a_process_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen3_moe", tmp_path / "checkpoint")
    recipe = write_recipe(tmp_path / "recipe.yaml", "qwen3_moe", checkpoint)
    command = [sys.executable, "-c", KILLED, str(recipe), str(tmp_path / "out"), "SIGTERM"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 130, result.stderr
    assert result.stderr.strip().endswith("interrupted")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "recipe.yaml"}

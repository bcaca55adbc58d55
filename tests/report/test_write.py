"""Writing: where, whole, and without torch; and the command."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner

from smoe_cli.cli.report import command
from smoe_cli.errors import UserError
from smoe_cli.report import write_report


def test_default_place_and_another(run_dir: Path, tmp_path: Path) -> None:
    assert write_report(run_dir) == run_dir / "report.html"
    other = tmp_path / "new" / "folder" / "x.html"
    assert write_report(run_dir, other) == other
    assert other.read_bytes() == (run_dir / "report.html").read_bytes()


def test_the_same_run_gives_the_same_bytes(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_a_failed_write_leaves_the_old_report(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(run_dir)
    path.write_text("<!doctype html>old", encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_report(run_dir)
    assert path.read_text(encoding="utf-8") == "<!doctype html>old"
    assert [child.name for child in run_dir.iterdir() if "tmp" in child.name] == []


def test_out_that_cannot_be_written_is_refused_with_help(run_dir: Path) -> None:
    with pytest.raises(UserError) as folder:
        write_report(run_dir, run_dir / "samples")
    assert "report.html" in (folder.value.help or "")
    with pytest.raises(UserError) as below_file:
        write_report(run_dir, run_dir / "plan.json" / "x.html")
    assert "--out" in (below_file.value.help or "")


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.jsonl", "eval/generation-rendered-ocr.json"])
def test_only_a_page_is_overwritten(run_dir: Path, name: str) -> None:
    before = (run_dir / name).read_bytes()
    with pytest.raises(UserError, match="not overwritten") as caught:
        write_report(run_dir, run_dir / name)
    assert caught.value.exit_code == 2
    assert "--out" in (caught.value.help or "")
    assert (run_dir / name).read_bytes() == before


def test_a_page_of_any_spelling_is_overwritten(run_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE HTML><p>old", encoding="utf-8")
    write_report(run_dir, page)
    assert b"<p>old" not in page.read_bytes()


def test_what_is_no_file_is_neither_read_nor_replaced(run_dir: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not overwritten"):
        write_report(run_dir, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_name_that_cannot_be_looked_up_is_the_users_mistake(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run_dir, tmp_path / ("x" * 300))


def test_no_torch(run_dir: Path) -> None:
    """Training calls the report at its end; `smoe report` on a laptop should not wait for torch."""
    script = (
        "import sys; from pathlib import Path; from smoe_cli.report import write_report; write_report(Path(sys.argv[1]));"
        "sys.exit(', '.join({'torch', 'transformers', 'accelerate', 'datasets'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(run_dir)], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_command(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def pretend(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", pretend)
    out = tmp_path / "r.html"
    result = CliRunner().invoke(command, [str(run_dir), "--out", str(out), "--open"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.startswith(f"{out}  ")
    assert result.output.rstrip().endswith(" kB")
    assert opened == [out.as_uri()]


def test_command_on_something_else_is_the_users_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == 2

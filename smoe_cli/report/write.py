"""Writing the report: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.files import write_atomically
from smoe_cli.report.load import load_run
from smoe_cli.report.page import page

START = b"<!doctype html"
"""How a report begins. A file that begins otherwise is not overwritten: it is likely a recipe or a result."""


def write_report(run_dir: Path, out: Path | None = None, say: Callable[[str], None] = lambda note: None) -> Path:
    """Writes the report on a run directory to `out` (default: report.html inside it) and returns where it is.

    say: told what the report lacks, a sentence for each file of the run that is missing or damaged. The report appears whole or
    not at all. Raises UserError when `run_dir` is not a run directory, when the file cannot be written, and when another file
    than an HTML page is already there.
    """
    run_dir = Path(run_dir)
    target = run_dir / "report.html" if out is None else Path(out)
    _check(target)
    run = load_run(run_dir)
    content = page(run).encode("utf-8", errors="replace")
    try:
        write_atomically(target, content)
    except OSError as error:
        raise _unwritable(target, error) from None
    for note in run.notes:
        say(note)
    return target


def _check(target: Path) -> None:
    try:
        if target.is_dir():
            raise UserError(f"{target}: a folder", f"name the file: --out {target / 'report.html'}")
        if not target.exists():
            return
        if target.is_file():  # not a device or a pipe, which reading could wait for
            with target.open("rb") as file:
                if file.read(len(START)).lower() == START:
                    return
    except OSError as error:
        raise _unwritable(target, error) from None
    raise UserError(f"{target}: not an HTML page, so it is not overwritten", "choose another place with --out, or remove it")


def _unwritable(target: Path, error: OSError) -> UserError:
    return UserError(f"{target}: cannot be written ({error.strerror or error})", "choose another place with --out")

"""How errors are shown on the terminal."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

import click

from smoe_cli.errors import SmoeError

DEBUG = "SMOE_DEBUG"
_PACKAGE = Path(__file__).resolve().parents[1]


def show(error: SmoeError) -> None:
    """A message on stderr. Errors in a recipe say where they are themselves; others start with `error:`."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    text = str(error)
    click.echo(_coloured(text if getattr(error, "located", False) else f"error: {text}"), err=True)


def show_internal(error: BaseException) -> None:
    """An exception that nobody foresaw, in one line, with the place that raised it."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    places = list(dict.fromkeys(_place(frame) for frame in [*frames[-1:], *ours[-1:]]))
    what = " ".join(str(error).split())
    line = f"internal error: {type(error).__name__}{f': {what}' if what else ''}"
    if places:
        line += f" ({', called from '.join(places)})"
    if not os.environ.get(DEBUG):
        line += f"\n  help: this is a mistake in smoe; set {DEBUG}=1 to see the traceback"
    click.echo(_coloured(line), err=True)


def _place(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    name = path.relative_to(_PACKAGE.parent) if path.is_relative_to(_PACKAGE) else path
    return f"{name}:{frame.lineno}"


def _coloured(text: str) -> str:
    """Red for what is wrong, blue for where, cyan for help. `click.echo` removes it where stderr is not a terminal."""
    text = re.sub(
        r"(?m)^(\S.*?: |internal )?error: ", lambda m: f"{m[1] or ''}{click.style('error:', fg='red', bold=True)} ", text
    )
    text = re.sub(r"(?m)^( *\d* *\|)", lambda m: click.style(m[1], fg="blue"), text)
    text = re.sub(r"(?m)(\^+)$", lambda m: click.style(m[1], fg="red", bold=True), text)
    return re.sub(r"(?m)^  help: ", f"  {click.style('help:', fg='cyan', bold=True)} ", text)


def silence_stdout() -> None:
    """After the reader of a pipe has gone: nothing more is written, at interpreter exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

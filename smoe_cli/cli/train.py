"""`smoe train`"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smoe_cli.cli.common import load_and_compile, recipe_argument, set_option
from smoe_cli.errors import Failure

if TYPE_CHECKING:
    from smoe_cli.plan import Plan
    from smoe_cli.recipe import Loaded


@click.command("train")
@recipe_argument
@set_option
@click.option(
    "--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Directory of the run [default: runs/<name>]."
)
@click.option(
    "--resume",
    default="auto",
    show_default=True,
    metavar="auto|never|PATH",
    help="Go on from the newest checkpoint, start in a new directory, or go on from a given checkpoint.",
)
def command(recipe: Path, overrides: tuple[str, ...], run_dir: Path | None, resume: str) -> None:
    """Train a recipe from a laptop to many GPUs.

    \b
    smoe train recipes/quickstart.yaml
    smoe train recipes/quickstart.yaml --set seed=1 --run-dir runs/seed1
    accelerate launch -m smoe_cli train recipes/quickstart.yaml
    """
    loaded, plan = load_and_compile(recipe, overrides)
    settings = [part for override in overrides for part in ("--set", override)]
    again = ["smoe", "train", str(recipe), *settings, "--run-dir"]
    start(loaded, plan, run_dir, resume, lambda folder: [*again, str(folder)])


def start(loaded: Loaded, plan: Plan, run_dir: Path | None, resume: str, again: Callable[[Path], Sequence[str]]) -> Path:
    """Train; returns the run directory. After a signal, shows the command `again(run directory)` that goes on, and exits."""
    import torch

    from smoe_cli.train.loop import Stopped
    from smoe_cli.train.run import train

    try:
        return train(loaded, plan, run_dir, resume)
    except Stopped as stopped:
        command = shlex.join(again(stopped.folder))
        click.echo(f"{stopped}; a checkpoint is saved. Go on with: {command}", err=True)
        raise SystemExit(128 + stopped.signal) from None
    except torch.OutOfMemoryError as error:
        less = (
            "raise `accumulate` of the phase or set training.activation_checkpointing; in an evaluation, lower its batch_size"
        )
        help = f"{less}; then run the same command again"
        raise Failure(f"out of memory: {str(error).splitlines()[0]}", help) from None
    except OSError as error:
        raise Failure(f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}") from None

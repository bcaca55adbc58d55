"""What several commands share: the recipe argument, `--set`, and the way from a path to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smoe_cli.plan import Plan
    from smoe_cli.recipe import Loaded

# Whether the file exists is left to the loader, whose errors name a similar file.
recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, as often as needed: --set phases.0.steps=100",
)


def load_and_compile(path: str | Path, overrides: Sequence[str] = (), processes: int = 1) -> tuple[Loaded, Plan]:
    """The recipe and its plan, with the memory of `processes` devices. Raises RecipeError with every mistake at its place."""
    from smoe_cli.plan import PlanError, compile_plan
    from smoe_cli.recipe import load

    loaded = load(path, overrides)
    try:
        return loaded, compile_plan(loaded.recipe, processes)
    except PlanError as error:
        raise loaded.error(error.problems) from None

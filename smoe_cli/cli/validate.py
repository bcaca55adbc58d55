"""`smoe validate`: every mistake of every recipe, at its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smoe_cli.cli.common import load_and_compile, set_option

if TYPE_CHECKING:
    from smoe_cli.recipe import Loaded, Recipe


@click.command("validate")
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@set_option
@click.pass_context
def command(ctx: click.Context, recipes: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check recipes without building or downloading anything.

    Of checkpoints that a recipe begins with, the headers of those in local folders are read. Whether it fits one of the hub is
    for `smoe plan` to say; a local folder or a profile that does not exist (yet) is warned of.

    \b
    smoe validate recipes/*.yaml
    smoe validate recipes/quickstart.yaml --set phases.0.steps=100
    """
    from smoe_cli.cli.messages import show
    from smoe_cli.errors import UserError
    from smoe_cli.recipe import load
    from smoe_cli.recipe.words import count

    wrong = 0
    for path in recipes:
        try:
            loaded = load(path, overrides)
            recipe = loaded.recipe
            unopened = [name for name in checkpoints(recipe).values() if not os.path.isdir(os.path.expanduser(name))]
            if not unopened:
                load_and_compile(path, overrides)
        except UserError as error:
            wrong += 1
            show(error)
            click.echo(err=True)
            continue
        if unopened:
            warn_of_missing(loaded)
        steps = sum(phase.steps for phase in recipe.phases)
        facts = [recipe.name, count(len(recipe.phases), "phase"), count(steps, "step")]
        click.echo(f"ok  {path}  ({', '.join(facts + [f'without opening {name}' for name in unopened])})")
    if wrong:
        if len(recipes) > 1:
            click.echo(f"{wrong} of {count(len(recipes), 'recipe')} cannot be used", err=True)
        ctx.exit(UserError.exit_code)


def checkpoints(recipe: Recipe) -> dict[tuple[str, ...], str]:
    """Where in the recipe a checkpoint that it begins with is named: its path or hub id."""
    backbone, vision = recipe.model.backbone, recipe.model.vision
    found: dict[tuple[str, ...], str] = {}
    if backbone.pretrained is not None:
        found["model", "backbone", "pretrained", "path"] = backbone.pretrained.path
    if backbone.upcycle is not None:
        found["model", "backbone", "upcycle", "from"] = backbone.upcycle.from_
    if vision is not None and vision.family == "pretrained":
        found["model", "vision", "path"] = vision.path
    return found


def warn_of_missing(loaded: Loaded) -> None:
    """Say on stderr which local checkpoints, and which profile, are not there (yet: another command may be to make them)."""
    missing = {}
    for place, name in checkpoints(loaded.recipe).items():
        path = os.path.expanduser(name)
        if not os.path.isdir(path) and is_local(name):
            missing[place] = f"`{name}` is a file, not a folder" if os.path.exists(path) else f"no such folder `{name}`"
    profile = loaded.recipe.model.profile
    if profile is not None and not os.path.exists(os.path.expanduser(profile)):
        missing["model", "profile"] = f"no such file `{profile}`"
    for place, what in missing.items():
        where, key = loaded.place(place), ".".join(place)
        click.echo(f"{where}: warning: {key}: {what}; checked without opening it", err=True)


def is_local(name: str) -> bool:
    """Whether a name can only be a path. Hub ids are `name` or `owner/name`; a path like that is one if its folder exists."""
    path = os.path.expanduser(name)
    looks = os.path.isabs(path) or name.startswith((".", "~")) or name.count("/") > 1
    return looks or os.path.exists(path) or os.path.isdir(os.path.dirname(path))

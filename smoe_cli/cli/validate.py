"""`smoe validate`: every mistake of every recipe, at its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smoe_cli.cli.common import load_and_compile, set_option

if TYPE_CHECKING:
    from smoe_cli.recipe import Recipe


@click.command("validate")
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@set_option
@click.pass_context
def command(ctx: click.Context, recipes: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check recipes without building or downloading anything.

    Of checkpoints that a recipe begins with, the headers of those in local folders are read. Whether it fits one of the hub is
    for `smoe plan` to say.

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
            recipe = load(path, overrides).recipe
            unopened = [name for name in checkpoints(recipe) if not os.path.isdir(os.path.expanduser(name))]
            if not unopened:
                load_and_compile(path, overrides)
        except UserError as error:
            wrong += 1
            show(error)
            click.echo(err=True)
            continue
        steps = sum(phase.steps for phase in recipe.phases)
        facts = [recipe.name, count(len(recipe.phases), "phase"), count(steps, "step")]
        click.echo(f"ok  {path}  ({', '.join(facts + [f'without opening {name}' for name in unopened])})")
    if wrong:
        if len(recipes) > 1:
            click.echo(f"{wrong} of {count(len(recipes), 'recipe')} cannot be used", err=True)
        ctx.exit(UserError.exit_code)


def checkpoints(recipe: Recipe) -> list[str]:
    """Paths and hub ids of the checkpoints that a recipe begins with."""
    backbone, vision = recipe.model.backbone, recipe.model.vision
    found = [backbone.pretrained.path if backbone.pretrained else None, backbone.upcycle.from_ if backbone.upcycle else None]
    found.append(vision.path if vision is not None and vision.family == "pretrained" else None)
    return [path for path in found if path is not None]

"""`smoe validate`: every mistake of every recipe, at its place."""

from __future__ import annotations

from pathlib import Path

import click

from smoe_cli.cli.common import load_and_compile, set_option


@click.command("validate")
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@set_option
@click.pass_context
def command(ctx: click.Context, recipes: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check recipes without building or downloading anything.

    \b
    smoe validate recipes/*.yaml
    smoe validate recipes/quickstart.yaml --set phases.0.steps=100
    """
    from smoe_cli.cli.messages import show
    from smoe_cli.errors import UserError
    from smoe_cli.recipe.words import count

    wrong = 0
    for path in recipes:
        try:
            loaded, plan = load_and_compile(path, overrides)
        except UserError as error:
            wrong += 1
            show(error)
            click.echo(err=True)
            continue
        recipe = loaded.recipe
        click.echo(f"ok  {path}  ({recipe.name}, {count(len(recipe.phases), 'phase')}, {count(plan.total_steps, 'step')})")
    if wrong:
        if len(recipes) > 1:
            click.echo(f"{wrong} of {count(len(recipes), 'recipe')} cannot be used", err=True)
        ctx.exit(UserError.exit_code)

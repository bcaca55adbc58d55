"""`smoe plan`: what a recipe would build and train, without building it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from smoe_cli.cli.common import load_and_compile, recipe_argument, set_option


@click.command("plan")
@recipe_argument
@set_option
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Devices to share the batch.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON, every tensor included.")
def command(recipe: Path, overrides: tuple[str, ...], processes: int, as_json: bool) -> None:
    """Show what a recipe builds and trains: experts, parameters, learning rates, schedule, memory.

    Needs no accelerator and no data. Of a pretrained backbone or vision encoder only config and headers are read, but one that
    is named by its hub id is downloaded.

    \b
    smoe plan recipes/symbiotic-30b-a3b.yaml
    smoe plan recipes/symbiotic-30b-a3b.yaml --processes 64 --set phases.0.accumulate=1
    """
    loaded, plan = load_and_compile(recipe, overrides, processes)
    if as_json:
        click.echo(json.dumps(plan.to_dict(), indent=2))
        return

    from rich.console import Console

    from smoe_cli.plan.show import show

    show(plan, loaded.recipe, Console(highlight=False))

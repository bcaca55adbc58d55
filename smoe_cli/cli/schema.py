"""`smoe schema`: the JSON Schema that editors complete and check recipes with."""

from __future__ import annotations

import json
from pathlib import Path

import click

DEFAULT = Path("schemas/recipe.schema.json")


@click.command("schema")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT, show_default=True, help="File to write."
)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the file is not up to date.")
def command(output: Path, check: bool) -> None:
    """Write the JSON Schema of recipes.

    Editors find it through the first line of a recipe:

    \b
    # yaml-language-server: $schema=../schemas/recipe.schema.json
    """
    from smoe_cli.errors import Failure, UserError
    from smoe_cli.eval.targets import check_file, writing
    from smoe_cli.files import write_atomically
    from smoe_cli.recipe.schema import schema_text

    text = schema_text()
    if check:
        try:
            current = output.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            raise Failure(f"{output} does not exist", "run `smoe schema`") from None
        except OSError as error:
            raise UserError(f"{output}: cannot be read: {error.strerror or error}") from None
        if current != text:
            raise Failure(f"{output} is not up to date", "run `smoe schema`")
        click.echo(f"ok  {output}")
        return
    check_file(output, _is_schema, "a JSON Schema")
    with writing(output):
        write_atomically(output, text)
    click.echo(f"wrote {output}")


def _is_schema(text: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "$schema" in value

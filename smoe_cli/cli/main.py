"""`smoe`: finds the command, and turns whatever goes wrong into a message and an exit code.

0: done. 1: failed. 2: the user can mend it. 130: interrupted. `smoe --help` imports none of the commands.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from smoe_cli.cli.messages import show, show_internal, silence_stdout
from smoe_cli.errors import SmoeError, UserError

COMMANDS = {
    "validate": "Check recipes and show every mistake at its place.",
    "plan": "Show what a recipe builds and costs, without building it.",
    "train": "Train a recipe, or go on with a run.",
    "eval": "Measure a model or a run.",
    "compare": "Put results side by side, where they were measured alike.",
    "generate": "Draw images from captions, or answer about an image.",
    "report": "Make one HTML page of a run.",
    "profile": "Count how a pretrained model uses its experts.",
    "convert": "Convert between Hugging Face checkpoints and models of a recipe.",
    "schema": "Write the JSON Schema that editors check recipes with.",
}
"""Each is the `command` of the module of its name in this folder."""


class Commands(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"smoe_cli.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from smoe_cli.recipe.words import did_you_mean

            raise UserError(f"no such command `{name}`", did_you_mean(name, list(COMMANDS), "commands"))
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="smoe", prog_name="smoe")
def cli() -> None:
    """Compile a recipe into a multimodal Mixture-of-Experts model, train it and measure it.

    \b
    smoe validate recipes/quickstart.yaml
    smoe plan     recipes/quickstart.yaml
    smoe train    recipes/quickstart.yaml --set phases.0.steps=100
    """


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Only SystemExit, of commands that choose their own code, passes."""
    try:
        code = cli.main(list(arguments), prog_name="smoe", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SmoeError as error:
        show(error)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        show(_in_our_words(error))
        return error.exit_code
    except click.Abort as error:  # click's word for Ctrl-C, but also for the end of a file
        if isinstance(error.__cause__, EOFError):
            show_internal(error.__cause__)
            return 1
        click.echo("interrupted", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        silence_stdout()
        return 1
    except Exception as error:
        show_internal(error)
        return 1


def _in_our_words(error: click.ClickException) -> SmoeError:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    help = f"`{context.command_path} --help` shows how it is called" if context else None
    return UserError(message[:1].lower() + message[1:], help)


def main() -> None:
    """Entry point of the console script."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before any of the libraries that would send some is imported
    sys.exit(run(sys.argv[1:]))

"""`smoe profile`: count how a model uses its experts."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smoe_cli.convert.profiling.counting import Settings
    from smoe_cli.plan.profile import Profile


@click.command("profile")
@click.argument("paths", metavar="MODEL | --merge FILE...", nargs=-1, required=True)
@click.option(
    "--data",
    multiple=True,
    metavar="PATH[:SPLIT]",
    help="What to count over, as often as needed: a file, folder or hub id with a column `text` or with columns `image`, "
    "`question`, `answer` (OCRBench); an MMLU folder; `python-docs`; a recipe, for its data sources.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("profile.json"), show_default=True, help="The profile.")
@click.option("--limit", type=click.IntRange(min=1), help="That many rows of each data source, drawn without favour.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Documents run at once.")
@click.option("--max-tokens", type=click.IntRange(min=2), default=2048, show_default=True, help="Longer documents are cut.")
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    nargs=2,
    metavar="HEIGHT WIDTH",
    help="Fit images into this size [default: the model's own choice by the size of each].",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Compute in this type; auto: that of the checkpoint.",
)
@click.option("--merge", is_flag=True, help="Add profiles of the same model over different data.")
@click.option("--figure", type=click.Path(path_type=Path), help="The heat map [default: --out with .png].")
@click.option("--json", "json_path", metavar="PATH", help="Write the table as JSON; `-` prints it instead of the table.")
@click.pass_context
def command(
    context: click.Context,
    paths: tuple[str, ...],
    data: tuple[str, ...],
    out: Path,
    limit: int | None,
    batch_size: int,
    max_tokens: int,
    image_size: tuple[int, int] | None,
    dtype: str,
    merge: bool,
    figure: Path | None,
    json_path: str | None,
) -> None:
    """Count how often MODEL sends tokens to each of its experts, by layer and modality.

    MODEL is a checkpoint in Hugging Face layout (folder or hub id), a run directory or a model folder.

    \b
    smoe profile Qwen/Qwen3-30B-A3B --data ~/data/mmlu --limit 2000
    smoe profile ~/models/vlm --data ~/data/mmlu --data ~/data/OCRBench --out vlm.json
    smoe profile --merge a.json b.json --out profile.json

    A recipe reads the result as `model.profile`. It is saved every few seconds; the same command goes on where it stands.
    """
    from smoe_cli.convert.profiling.counting import Settings
    from smoe_cli.errors import UserError
    from smoe_cli.eval.targets import check_file

    figure = figure or out.with_suffix(".png")
    if figure.absolute() == out.absolute():
        raise UserError(f"--figure {figure}: the profile is written there", "choose another name")
    check_file(out, _is_profile, "a profile")
    if merge:
        profile = _merged(context, paths, out)
    else:
        if len(paths) > 1:
            raise UserError(f"one MODEL is expected, not {len(paths)}", "profiles are added with --merge")
        if not data:
            raise UserError("--data is missing", "say what to count over: --data python-docs, or a file, folder or hub id")
        profile = _counted(paths[0], data, out, Settings(batch_size, limit, dtype, max_tokens, image_size))
    _show(profile, out, figure, json_path)


def _merged(context: click.Context, paths: tuple[str, ...], out: Path) -> Profile:
    from smoe_cli.convert.profiling.counting import merge
    from smoe_cli.convert.profiling.run import write
    from smoe_cli.errors import UserError

    useless = [name for name in ("data", "limit", "batch_size", "max_tokens", "image_size", "dtype") if _given(context, name)]
    if useless:
        raise UserError(f"--{useless[0].replace('_', '-')}: no effect with --merge")
    profile = merge([Path(path) for path in paths])
    write(out, profile)
    return profile


def _given(context: click.Context, name: str) -> bool:
    from click.core import ParameterSource

    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _counted(model: str, data: tuple[str, ...], out: Path, settings: Settings) -> Profile:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from smoe_cli.convert.profiling.counting import profile_model
    from smoe_cli.convert.profiling.run import Stopped

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    try:
        with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
            bars: dict[str, object] = {}

            def progress(name: str, done: int, total: int) -> None:
                if name not in bars:
                    bars[name] = bar.add_task(name, total=total, completed=done)
                    if done:
                        text = f"{name}: going on after {done:,} of {total:,} rows"
                        bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
                bar.update(bars[name], completed=done)  # type: ignore[arg-type]

            profile = profile_model(model, data, out, settings, progress)
        if not bars:
            click.echo("every row was counted before: nothing left to do", err=True)
        return profile
    except Stopped as stopped:
        again = shlex.join(["smoe", *sys.argv[1:]]) if sys.argv[1:] else "the same command"
        click.echo(f"{stopped}; {out} holds what was counted. Go on with: {again}", err=True)
        raise SystemExit(128 + stopped.signal) from None


def _show(profile: Profile, out: Path, figure: Path, json_path: str | None) -> None:
    from rich.console import Console

    from smoe_cli.convert.profiling.figure import draw
    from smoe_cli.convert.profiling.summary import summarise, table
    from smoe_cli.eval.results import write_json

    draw(profile, figure)
    lines = [line.to_dict() for line in summarise(profile)]
    if json_path == "-":
        click.echo(json.dumps(lines, indent=2))
        return
    if json_path:
        write_json(Path(json_path), lines)
    console = Console(highlight=False)
    console.print(table(profile))
    for counted in profile.data.values():
        if counted.skipped:
            text = f"{counted.name}: {counted.skipped:,} of {counted.rows:,} rows could not be used"
            console.print(text, style="yellow", markup=False, soft_wrap=True)
    console.print(f"wrote {out} and {figure}", markup=False, soft_wrap=True)


def _is_profile(text: str) -> bool:
    return '"smoe/profile"' in text[:200]

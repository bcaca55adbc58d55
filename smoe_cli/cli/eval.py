"""`smoe eval`: measure a model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smoe_cli.cli.eval_output import Output
    from smoe_cli.eval.models import OpenModel
    from smoe_cli.eval.results import Result

    Measure = Callable[[OpenModel, Callable[[str, int, int], None], Callable[[Result], None]], object]
    """Measures an open model, telling how far it is, and each result as soon as it is there."""


EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def _home(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    """`~` as the home folder, which shells leave alone in `--json=~/x.json`."""
    return None if path is None else os.path.expanduser(path)


@click.command("eval")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--tasks", metavar="NAMES", help="mmlu,ocrbench,… [default: the recipe's].")
@click.option("--data", metavar="[TASK=]PATH", multiple=True, help="Data of a task (or of the only one that needs any).")
@click.option("--set", "settings", metavar="TASK.KEY=VALUE", multiple=True, help="Any other key that a task has in a recipe.")
@click.option("--shots", type=click.IntRange(min=0), help="Examples in the prompt [default: the task's; MMLU 5].")
@click.option("--limit", type=click.IntRange(min=1), help="First questions only (MMLU: of each subject).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Prompts run at once [default: 8].")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Precision [default: float32].")
@click.option(
    "--engine",
    type=click.Choice(["native", "lm-eval"]),
    default="native",
    show_default=True,
    help="lm-eval: any task of lm-evaluation-harness, by its own code.",
)
@click.option("--during", metavar="STEPS", help="Train MODEL, a recipe or an unfinished run, and measure it after these steps.")
@click.option("--rescore", metavar="FILE", callback=_home, help="Score predictions again, without a model.")
@click.option("--details", is_flag=True, help="Also show MMLU's subjects and OCRBench's question types.")
@click.option(
    "--predictions", metavar="FILE", callback=_home, help="Write what was answered to each question, one JSON line each."
)
@click.option(
    "--json",
    "json_path",
    metavar="PATH",
    callback=_home,
    help="Write a JSON list of the results; `-` prints it instead of the table.",
)
def command(
    model: Path | None,
    tasks: str | None,
    data: tuple[str, ...],
    settings: tuple[str, ...],
    shots: int | None,
    limit: int | None,
    batch_size: int | None,
    dtype: str | None,
    engine: str,
    during: str | None,
    rescore: str | None,
    details: bool,
    predictions: str | None,
    json_path: str | None,
) -> None:
    """Measure MODEL: a run directory, a checkpoint, a model folder, or a plain transformers folder (text, or text and images).

    \b
    smoe eval runs/quickstart
    smoe eval runs/quickstart --tasks mmlu --data ~/data/mmlu
    smoe eval runs/quickstart --tasks mmlu,ocrbench --data mmlu=~/data/mmlu --data ocrbench=~/data/OCRBench
    smoe eval checkpoints/smollm2 --tasks arc-easy --data ~/data/ai2_arc --json before.json --predictions before.jsonl
    smoe eval checkpoints/smollm2 --engine lm-eval --tasks mmlu,piqa
    smoe eval recipes/quickstart.yaml --during 500,1000
    smoe eval --rescore answers.jsonl --tasks ocrbench

    Of a run and its checkpoints the results are also kept in its eval/. Published MMLU numbers have 5 shots.
    """
    from smoe_cli.cli.eval_output import Output
    from smoe_cli.errors import UserError
    from smoe_cli.eval.choose import check_names, choose, parse_tasks

    output = Output(details, predictions, json_path)
    output.check(rescore)
    names = None if tasks is None else parse_tasks(tasks)
    running = {"--batch-size": batch_size, "--dtype": dtype}
    asking = {"--data": data, "--shots": shots, "--limit": limit}
    if rescore is not None:
        other = None if engine == "native" else engine
        _refuse("--rescore", **{"MODEL": model, "--during": during, "--engine": other}, **asking, **running)
        scored = _rescored(Path(rescore), names, settings)
        output.save(scored)
        output.show(scored)
        return
    if model is None:
        raise UserError("which model?", "smoe eval MODEL, or --rescore FILE without one")

    from smoe_cli.eval.opening.locate import recipe_of

    size = batch_size or 8
    if engine == "lm-eval":
        from smoe_cli.eval.harness.run import run_harness
        from smoe_cli.eval.harness.tasks import harness_tasks

        _refuse("--engine lm-eval", **{"--set": settings, "--during": during})
        with harness_tasks(names, data, shots) as asked:
            _measure(model, dtype, output, lambda opened, _, done: run_harness(opened, asked, shots, limit, size, done))
        return
    if during is not None:
        from smoe_cli.cli.during import recipe_file, train_during
        from smoe_cli.recipe import load

        showing = {"--predictions": predictions, "--json": json_path, "--details": details or None}
        _refuse("--during", **showing, **{"--dtype": dtype})
        tasks_of = choose(load(recipe_file(model)).recipe, names, data, shots, limit, settings)
        named = names or settings or any(value not in (None, ()) for value in asking.values())
        train_during(model, during, tasks_of if named else None, batch_size)
        return

    check_names(names or ())  # before a model of the hub is downloaded
    recipe = recipe_of(model)
    chosen = choose(recipe, names, data, shots, limit, settings)
    output.check_tasks([task.task for task in chosen])

    from smoe_cli.eval.checks import check_tasks  # imports torch: what is wrong before this is said at once
    from smoe_cli.eval.run import evaluate

    check_tasks(chosen, recipe)
    _measure(
        model, dtype, output, lambda opened, tell, done: evaluate(opened, chosen, batch_size=size, progress=tell, done=done)
    )


def _measure(model: Path, dtype: str | None, output: Output, measure: Measure) -> None:
    """Open a model, measure it, keep each result as soon as it is there, of a run in its eval/ too, and show them: also those
    before a task that fails."""
    from smoe_cli.eval.opening.locate import open_to_measure, run_directory
    from smoe_cli.eval.results import free_path
    from smoe_cli.eval.run import write
    from smoe_cli.eval.targets import check_folder

    if run := run_directory(model):
        check_folder(run / "eval")
    opened = open_to_measure(model, dtype or "float32")
    results: list[Result] = []

    def done(result: Result) -> None:
        step = result.model.get("step")  # of a checkpoint
        result = replace(result, step=step)
        results.append(result)
        if run:
            name = result.task if step is None else f"step-{step:08d}-{result.task}"
            kept = write(result, path := free_path(run / "eval" / f"{name}.json"))
            click.echo(f"wrote {path}", err=True)
            if kept.predictions_file:
                results[-1] = replace(result, predictions_file=str(path.parent / kept.predictions_file))
        output.save(results)

    try:
        with _progress() as tell:
            measure(opened, tell, done)
    finally:
        if results:
            output.show(results)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each task, or a line now and then where there is no terminal: told (task, questions done, questions in all)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(task: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                click.echo(f"{task}: {done:,}/{total:,}", err=True)

        yield line
        return

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bars = {}

        def tell(task: str, done: int, total: int) -> None:
            if task not in bars:
                bars[task] = bar.add_task(task)
            bar.update(bars[task], completed=done, total=total)

        yield tell


def _rescored(file: Path, names: list[str] | None, settings: Sequence[str]) -> list[Result]:
    from smoe_cli.errors import UserError
    from smoe_cli.eval.choose import check_names, parse_settings
    from smoe_cli.eval.ocr.rescore import RESCORED, folding, rescore

    for name in names or ():
        check_names([name])
        if name not in RESCORED:
            raise UserError(f"--rescore: task `{name}` is not scored from texts", f"pass --tasks {RESCORED[0]}")
    if not names:
        raise UserError("--rescore: which task's rules?", f"pass --tasks {RESCORED[0]}")
    changed = parse_settings(settings, names)
    return [rescore(file, name, folding(name, changed.get(name, {}))) for name in names]


def _refuse(mode: str, **given: object) -> None:
    """Raise UserError for the first of these options that was given although it has no effect."""
    from smoe_cli.errors import UserError

    for name, value in given.items():
        if value not in (None, ()):
            raise UserError(f"{name} has no effect with {mode}")

"""`smoe eval`: measure a model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smoe_cli.eval.models import OpenModel
    from smoe_cli.eval.results import Result

    Measure = Callable[[OpenModel, Callable[[str, int, int], None], Callable[[Result], None]], object]
    """Measures an open model, telling how far it is, and each result as soon as it is there."""


@dataclass(frozen=True)
class Output:
    """Where results go."""

    details: bool
    predictions: str | None
    json: str | None

    def check(self) -> None:
        """Raise UserError, before anything is loaded, where results could not be written or would not be shown."""
        from smoe_cli.errors import UserError
        from smoe_cli.eval.predictions import is_predictions
        from smoe_cli.eval.results import is_results
        from smoe_cli.eval.targets import check_file

        if self.details and self.json == "-":
            raise UserError("--details: no effect with `--json -`, which prints every detail")
        if self.json not in (None, "-"):
            check_file(Path(str(self.json)), is_results, "a JSON file of results")
        if self.predictions is not None:
            check_file(Path(self.predictions), is_predictions, "a file of predictions")

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raise UserError when several tasks have one name, by which a line of predictions says whose it is."""
        from smoe_cli.errors import UserError

        twice = next((name for name in names if names.count(name) > 1), None)
        if self.predictions is not None and twice:
            raise UserError(
                f"--predictions: the recipe has several tasks `{twice}`, whose answers one file cannot tell apart",
                "leave --predictions out: the eval/ of a run keeps a file for each",
            )

    def write(self, results: Sequence[Result]) -> None:
        """Predictions and JSON where they were asked for, and a table unless JSON goes to the terminal."""
        from rich.console import Console

        from smoe_cli.eval.predictions import write_predictions
        from smoe_cli.eval.results import table, write_json

        if self.predictions is not None:
            write_predictions(Path(self.predictions), {result.task: result.predictions for result in results})
            results = [replace(result, predictions_file=self._beside()) for result in results]
        objects = [result.to_dict() for result in results]
        if self.json == "-":
            click.echo(json.dumps(objects, indent=2, ensure_ascii=False))
            return
        if self.json:
            write_json(Path(self.json), objects)
        console = Console(highlight=False)
        console.print(table(results, self.details))
        for result in results:
            for warning in result.warnings:
                console.print(f"{result.name}: {warning}", style="yellow", markup=False, soft_wrap=True)

    def _beside(self) -> str:
        """The file of predictions as a result names it: relative to the file of the result, where there is one."""
        file = Path(str(self.predictions)).absolute()
        return str(file) if self.json in (None, "-") else os.path.relpath(file, Path(str(self.json)).absolute().parent)


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
@click.option("--rescore", metavar="FILE", help="Score predictions again, without a model.")
@click.option("--details", is_flag=True, help="Also show MMLU's subjects and OCRBench's question types.")
@click.option("--predictions", metavar="FILE", help="Write what was answered to each question, one JSON line each.")
@click.option(
    "--json", "json_path", metavar="PATH", help="Write a JSON list of the results; `-` prints it instead of the table."
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

    Of a run directory the results are also kept in its eval/. Published MMLU numbers have 5 shots.
    """
    from smoe_cli.errors import UserError
    from smoe_cli.eval.choose import choose, parse_tasks

    output = Output(details, predictions, json_path)
    output.check()
    names = None if tasks is None else parse_tasks(tasks)
    running = {"--batch-size": batch_size, "--dtype": dtype}
    asking = {"--data": data, "--shots": shots, "--limit": limit}
    if rescore is not None:
        _refuse("--rescore", **{"MODEL": model, "--during": during}, **asking, **running)
        output.write(_rescored(Path(rescore), names, settings))
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

    from smoe_cli.eval.checks import check_tasks
    from smoe_cli.eval.run import evaluate

    recipe = recipe_of(model)
    chosen = choose(recipe, names, data, shots, limit, settings)
    output.check_tasks([task.task for task in chosen])
    check_tasks(chosen, recipe)
    _measure(
        model, dtype, output, lambda opened, tell, done: evaluate(opened, chosen, batch_size=size, progress=tell, done=done)
    )


def _measure(model: Path, dtype: str | None, output: Output, measure: Measure) -> None:
    """Open a model, measure it, keep the results of a run in its eval/, and show them, also those before a task that fails."""
    from transformers.utils import logging

    from smoe_cli.eval.opening.locate import open_to_measure, run_directory
    from smoe_cli.eval.results import free_path
    from smoe_cli.eval.run import write
    from smoe_cli.eval.targets import check_folder

    if run := run_directory(model):
        check_folder(run / "eval")
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    opened = open_to_measure(model, dtype or "float32")
    results: list[Result] = []

    def done(result: Result) -> None:
        results.append(result)
        if run:
            write(result, path := free_path(run / "eval" / f"{result.task}.json"))
            click.echo(f"wrote {path}", err=True)

    try:
        with _progress() as tell:
            measure(opened, tell, done)
    finally:
        if results:
            output.write(results)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each task, on a terminal: told (task, questions done, questions in all)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        bars = {}

        def tell(task: str, done: int, total: int) -> None:
            if task not in bars:
                bars[task] = bar.add_task(task, total=total)
            bar.update(bars[task], completed=done)

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

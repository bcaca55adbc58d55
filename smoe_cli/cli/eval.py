"""`smoe eval`: measure a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("eval")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--tasks", metavar="NAMES", help="Some of mmlu,ocrbench,rendered-ocr [default: those of the model's recipe].")
@click.option("--data", metavar="[TASK=]PATH", multiple=True, help="Data of a task (or of the only one that needs any).")
@click.option("--shots", type=click.IntRange(0, 5), help="MMLU: examples in the prompt [default: 5].")
@click.option("--limit", type=click.IntRange(min=1), help="First questions only (MMLU: of each subject).")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts run at once.")
@click.option("--details", is_flag=True, help="Also show MMLU's subjects and OCRBench's question types.")
@click.option(
    "--json", "json_path", metavar="PATH", help="Write a JSON list of the results; `-` prints it instead of the table."
)
def command(
    model: Path,
    tasks: str | None,
    data: tuple[str, ...],
    shots: int | None,
    limit: int | None,
    batch_size: int,
    details: bool,
    json_path: str | None,
) -> None:
    """Measure MODEL, a run directory or a model folder.

    \b
    smoe eval runs/quickstart
    smoe eval runs/quickstart --tasks mmlu --data ~/data/mmlu
    smoe eval runs/quickstart --tasks mmlu,ocrbench --data mmlu=~/data/mmlu --data ocrbench=~/data/OCRBench

    Of a run directory the results are also kept in its eval/. Published MMLU numbers have 5 shots.
    """
    from smoe_cli.errors import UserError
    from smoe_cli.eval.choose import check, choose, parse_tasks
    from smoe_cli.eval.results import free_path, is_results, table, write_json
    from smoe_cli.eval.targets import check_file, check_folder

    if details and json_path == "-":
        raise UserError("--details: no effect with `--json -`, which prints every detail")
    names = None if tasks is None else parse_tasks(tasks)
    if names is not None:
        check(names, data, shots)

    from smoe_cli.eval.locate import model_folder, open_model, run_directory
    from smoe_cli.recipe import load

    folder = model_folder(model)
    chosen = choose(load(folder / "smoe.yaml").recipe, names, data, shots, limit)
    run = run_directory(folder)
    if json_path not in (None, "-"):
        check_file(Path(json_path), is_results, "a JSON file of results")
    if run:
        check_folder(run / "eval")

    from rich.console import Console
    from rich.progress import Progress

    from smoe_cli.eval.run import evaluate

    symbiotic, tokenizer = open_model(folder)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        bars = {}

        def progress(task: str, done: int, total: int) -> None:
            if task not in bars:
                bars[task] = bar.add_task(task, total=total)
            bar.update(bars[task], completed=done)

        results = evaluate(symbiotic, tokenizer, chosen, batch_size=batch_size, model_folder=folder, progress=progress)
    if run:
        for result in results:
            write_json(path := free_path(run / "eval" / f"{result.task}.json"), result.to_dict())
            click.echo(f"wrote {path}", err=True)
    if json_path == "-":
        click.echo(json.dumps([result.to_dict() for result in results], indent=2, ensure_ascii=False))
        return
    if json_path:
        write_json(Path(json_path), [result.to_dict() for result in results])
    console = Console(highlight=False)
    console.print(table(results, details))
    for result in results:
        for warning in result.warnings:
            console.print(f"{result.name}: {warning}", style="yellow", markup=False, soft_wrap=True)

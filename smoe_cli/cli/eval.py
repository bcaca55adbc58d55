"""`smoe eval`: measure a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("eval")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--tasks", metavar="NAMES", help="mmlu,arc-easy,ocrbench,rendered-ocr,bits-per-byte [default: the recipe's].")
@click.option("--data", metavar="[TASK=]PATH", multiple=True, help="Data of a task (or of the only one that needs any).")
@click.option("--shots", type=click.IntRange(0, 5), help="MMLU: examples in the prompt [default: 5].")
@click.option("--limit", type=click.IntRange(min=1), help="First questions only (MMLU: of each subject).")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts run at once.")
@click.option("--details", is_flag=True, help="Also show MMLU's subjects and OCRBench's question types.")
@click.option(
    "--questions", metavar="FILE", help="Write what was answered to each multiple-choice question, one JSON line each."
)
@click.option("--compare", metavar="FILE", help="Compare with another model's answers, from a file that --questions wrote.")
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
    questions: str | None,
    compare: str | None,
    json_path: str | None,
) -> None:
    """Measure MODEL, a run directory, a model folder, or a plain causal language model of transformers.

    \b
    smoe eval runs/quickstart
    smoe eval runs/quickstart --tasks mmlu --data ~/data/mmlu
    smoe eval runs/quickstart --tasks mmlu,ocrbench --data mmlu=~/data/mmlu --data ocrbench=~/data/OCRBench
    smoe eval checkpoints/smollm2 --tasks arc-easy --data ~/data/ai2_arc --questions dense.jsonl

    Of a run directory the results are also kept in its eval/. Published MMLU numbers have 5 shots.
    """
    from smoe_cli.errors import UserError
    from smoe_cli.eval.choose import check, choose, choose_text, parse_tasks
    from smoe_cli.eval.questions import compare as compare_answers
    from smoe_cli.eval.questions import is_questions, read_questions, write_questions
    from smoe_cli.eval.results import free_path, is_results, table, write_json
    from smoe_cli.eval.targets import check_file, check_folder

    if details and json_path == "-":
        raise UserError("--details: no effect with `--json -`, which prints every detail")
    names = None if tasks is None else parse_tasks(tasks)
    if names is not None:
        check(names, data, shots)

    before = read_questions(Path(compare)) if compare else None

    from smoe_cli.eval.locate import is_plain, model_folder, open_model, open_plain, run_directory
    from smoe_cli.recipe import load

    plain = is_plain(model)
    if plain:
        if names is None:
            raise UserError(f"{model}: a plain language model has no recipe that names tasks", "pass --tasks mmlu,arc-easy")
        folder, chosen = model, choose_text(names, data, shots, limit)
    else:
        folder = model_folder(model)
        chosen = choose(load(folder / "smoe.yaml").recipe, names, data, shots, limit)
    run = None if plain else run_directory(folder)
    if json_path not in (None, "-"):
        check_file(Path(json_path), is_results, "a JSON file of results")
    if questions is not None:
        check_file(Path(questions), is_questions, "a file of answers")
    if run:
        check_folder(run / "eval")

    from rich.console import Console
    from rich.progress import Progress

    from smoe_cli.eval.run import evaluate

    opened, tokenizer = open_plain(folder) if plain else open_model(folder)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        bars = {}

        def progress(task: str, done: int, total: int) -> None:
            if task not in bars:
                bars[task] = bar.add_task(task, total=total)
            bar.update(bars[task], completed=done)

        results = evaluate(opened, tokenizer, chosen, batch_size=batch_size, model_folder=folder, progress=progress)
    if run:
        for result in results:
            write_json(path := free_path(run / "eval" / f"{result.task}.json"), result.to_dict())
            click.echo(f"wrote {path}", err=True)
    answers = {result.task: result.asked for result in results if result.asked}
    if questions is not None:
        write_questions(Path(questions), answers)
    if before is not None:
        for found in compare_answers(before, answers, Path(str(compare))):
            same = f"{found.task}: {found.same} of {found.total} questions answered as in {compare}"
            click.echo(f"{same}, log-likelihoods differ by at most {found.difference:.3g}", err=json_path == "-")
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

"""`smoe train`: from a recipe to a finished run directory."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

from smoe_cli.data.tokenizer import load_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.eval.results import table
from smoe_cli.eval.run import evaluate, file_names
from smoe_cli.model.inference import draw
from smoe_cli.model.io import save_model
from smoe_cli.model.model import build_model
from smoe_cli.plan import Plan
from smoe_cli.recipe import Loaded
from smoe_cli.report import write_report
from smoe_cli.train import checkpoint, rundir
from smoe_cli.train.loop import Trainer, graceful_signals
from smoe_cli.train.metrics import JsonLines
from smoe_cli.train.progress import Display
from smoe_cli.train.samples import draws_images, grid, save_png


def train(loaded: Loaded, plan: Plan, run_dir: Path | None, resume: str) -> Path:
    """Run the recipe from its newest checkpoint (`auto`), from nothing in a new directory (`never`) or from a checkpoint.

    run_dir: default runs/<name>. Returns the run directory. Raises loop.Stopped after a signal, UserError and Failure as the
    parts do.
    """
    recipe = loaded.recipe
    PartialState(cpu=not torch.cuda.is_available())
    folder = broadcast_object_list([rundir.choose(recipe.name, run_dir, resume)])[0]
    tracked = list(recipe.training.trackers)
    for name in tracked:
        if find_spec(name) is None:  # Accelerate would leave it out and only log so
            raise UserError(f"training.trackers: `{name}` is not installed", f"pip install 'smoe[{name}]'")
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if recipe.training.precision == "bf16" else "no",
        log_with=tracked or None,
        project_dir=folder,
    )
    _check_processes(plan, accelerator.num_processes, loaded)
    if accelerator.is_main_process:
        rundir.start(folder, loaded, plan)
        rundir.write(
            folder / "environment.json",
            json.dumps(rundir.environment(str(accelerator.device), accelerator.num_processes), indent=1),
        )
    accelerator.wait_for_everyone()
    if tracked:
        accelerator.init_trackers(recipe.name, config={"recipe": recipe.name, "seed": recipe.seed})
    tokenizer = load_tokenizer(recipe.model.tokenizer)
    trainer = Trainer(recipe, plan, build_model(recipe, plan), tokenizer, folder, accelerator)
    display = Display(plan, silent=not accelerator.is_main_process)
    found = _decide(folder, resume, display.say)
    if found is not None:
        trainer.restore(found)
        display.say(f"resuming from {found}: {plan.total_steps - trainer.state.step:,} of {plan.total_steps:,} steps remain")
    else:
        display.say(
            f"starting {recipe.name} in {folder}: {plan.total_steps:,} steps, {sum(t.numel for t in plan.tensors):,} parameters"
        )
    display.start(trainer.state.step)
    try:
        with graceful_signals(trainer), trainer.open_files():
            for index, planned in enumerate(plan.phases):
                if trainer.state.step < planned.start + planned.steps:
                    trainer.run_phase(index, display, sample)
                if accelerator.is_main_process:
                    _finish_phase(trainer, index, display)
                accelerator.wait_for_everyone()
    finally:
        display.close()
    if accelerator.is_main_process:
        with trainer.weights_for_use() as model:
            save_model(model, tokenizer, folder / "model", loaded.resolved_yaml())
        _conclude(folder, trainer, display)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return folder


def _check_processes(plan: Plan, processes: int, loaded: Loaded) -> None:
    for phase in plan.phases:
        if phase.rows_per_step % (phase.accumulate * processes):
            raise UserError(
                f"{loaded.path}: phase `{phase.name}` has {phase.rows_per_step} rows a step in {phase.accumulate} "
                f"micro-batches, which {processes} processes cannot share evenly",
                "change tokens_per_step, accumulate or the number of processes",
            )


def _decide(folder: Path, resume: str, say: Any) -> Path | None:
    if resume == "never":
        return None
    if resume == "auto":
        return checkpoint.newest_valid(folder / "checkpoints", say)
    if not (Path(resume) / "state.json").is_file():
        raise UserError(f"--resume {resume}: not a checkpoint", f"pass `auto`, `never` or a folder {folder}/checkpoints/step-…")
    return Path(resume)


def _finish_phase(trainer: Trainer, index: int, display: Display) -> None:
    """Sample grid and evaluation at the end of a phase; what an earlier session has written is left alone."""
    recipe, planned = trainer.recipe, trainer.plan.phases[index]
    end = planned.start + planned.steps
    if trainer.state.step > end:
        return
    if draws_images(recipe, index):
        sample(trainer, planned.name)
    rundir.write(trainer.folder / "data.json", json.dumps(trainer.state.report, indent=1))
    tasks, out = recipe.evaluation.tasks, trainer.folder / "eval"
    if not all((out / name).exists() for name in file_names(planned.name, tasks)):
        display.say(f"evaluating after phase {planned.name} …")
        with trainer.weights_for_use() as model:
            step = trainer.state.step
            results = evaluate(model, trainer.tokenizer, tasks, out, phase=planned.name, step=step, batch_size=50)
        display.console.print(table(results))


def sample(trainer: Trainer, phase: str) -> None:
    """Draw the recipe's prompts and write samples/step-….png, unless it exists."""
    sampling, step = trainer.recipe.training.sampling, trainer.state.step
    file = trainer.folder / "samples" / f"step-{step:08d}.png"
    if not sampling.prompts or file.exists():
        return
    with trainer.weights_for_use() as model:
        images = draw(model, trainer.tokenizer, sampling.prompts, sampling, seed=trainer.recipe.seed)
    save_png(grid(images, sampling.prompts), file)
    lines = JsonLines(trainer.folder / "samples.jsonl", step - 1)
    lines.write({"step": step, "phase": phase, "file": f"samples/{file.name}", "prompts": list(sampling.prompts)})
    lines.file.close()


def _conclude(folder: Path, trainer: Trainer, display: Display) -> None:
    """The last lines: what was reached, where to look, what to try next."""
    results = [json.loads(p.read_text()) for p in (folder / "eval").glob("*.json")]
    for result in sorted((r for r in results if r.get("step") is not None), key=lambda r: (r["step"], r["task"])):
        display.say(f"{result['name']} after {result['phase']}: {result['correct']}/{result['total']} = {result['score']:.1%}")
    for source, counts in trainer.state.report.items():
        if counts["skipped"]:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in counts["reasons"].items())
            display.say(f"skipped {counts['skipped']:,} rows of {source}: {reasons}")
    if grids := sorted((folder / "samples").glob("*.png")):
        display.say(f"samples: {grids[-1]}")
    display.say(f"report:  {write_report(folder)}")
    prompts = trainer.recipe.training.sampling.prompts
    next_command = f"smoe generate {folder} --prompt {shlex.quote(prompts[0])}" if prompts else f"smoe eval {folder}"
    display.say(f"next:    {next_command}")

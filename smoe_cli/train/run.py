"""`smoe train`: from a recipe to a finished run directory."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.loader import PhaseLoader
from smoe_cli.data.special import tokenizer_of
from smoe_cli.errors import UserError
from smoe_cli.eval.checks import check_tasks
from smoe_cli.eval.results import read_results
from smoe_cli.files import write_atomically
from smoe_cli.model.build import build_model
from smoe_cli.model.io import check_manifest, save_model
from smoe_cli.plan import Plan
from smoe_cli.recipe import Loaded, Recipe
from smoe_cli.report import write_report
from smoe_cli.train import checkpoint, rundir
from smoe_cli.train.loop import Trainer, graceful_signals
from smoe_cli.train.measure import measure_phase, missed
from smoe_cli.train.progress import Display
from smoe_cli.train.samples import draws_images, sample


def train(loaded: Loaded, plan: Plan, run_dir: Path | None, resume: str) -> Path:
    """Run the recipe from its newest checkpoint (`auto`), from nothing in a new directory (`never`) or from a checkpoint.

    run_dir: default runs/<name>. Returns the run directory. Raises loop.Stopped after a signal, UserError and Failure as the
    parts do.
    """
    recipe = loaded.recipe
    cpu = not torch.cuda.is_available()
    # evaluation runs on the first process while the others wait, for longer than the ten minutes they would by default
    state = PartialState(cpu=cpu, timeout=timedelta(days=2))
    if state.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise UserError(
            f"Accelerate is set up for {state.distributed_type.value}",
            "smoe trains on one or several CPUs or GPUs, data parallel",
        )
    tracked = list(recipe.training.trackers)
    for name in tracked:
        if find_spec(name) is None:  # Accelerate would leave it out and only log so
            raise UserError(f"training.trackers: `{name}` is not installed", f"pip install 'smoe[{name}]'")
    tokenizer = tokenizer_of(recipe, plan)
    if state.is_main_process:
        _check_data(recipe, plan, tokenizer, state.num_processes)

    say = Display(plan, silent=not state.is_main_process).say
    chosen: list[Any] = [None, None]
    if state.is_main_process:
        folder = rundir.choose(recipe.name, run_dir, resume)
        chosen = [folder, _decide(folder, resume, say)]
    folder, found = broadcast_object_list(chosen)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if recipe.training.precision == "bf16" else "no",
        log_with=tracked or None,
        project_dir=folder,
    )
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(rundir.start(folder, loaded, plan))
            environment = rundir.environment(str(accelerator.device), accelerator.num_processes)
            write_atomically(folder / "environment.json", json.dumps(environment, indent=1))
        accelerator.wait_for_everyone()
        if tracked:
            accelerator.init_trackers(recipe.name, config={"recipe": recipe.name, "seed": recipe.seed})
        torch.manual_seed(recipe.seed * 100_003 + accelerator.process_index)  # for dropout, which some checkpoints ask for
        trainer = Trainer(recipe, plan, build_model(recipe, plan), tokenizer, folder, accelerator)
        if found is not None:
            trainer.restore(found)
        if state.is_main_process:
            checkpoint.set_aside(folder / "checkpoints", trainer.state.step, say)
            for step in missed(folder, recipe.evaluation, trainer.state.step):
                say(f"not measured: the run has passed step {step:,}; checkpoints that are kept can be measured by `smoe eval`")
        if found is not None:
            say(f"resuming from {found}: {plan.total_steps - trainer.state.step:,} of {plan.total_steps:,} steps remain")
        else:
            say(f"starting {recipe.name} in {folder}: {plan.total_steps:,} steps, {plan.parameters.total:,} parameters")
        _run_phases(trainer, loaded)
        if state.is_main_process:
            _conclude(folder, trainer, say)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return folder


def _run_phases(trainer: Trainer, loaded: Loaded) -> None:
    display = Display(trainer.plan, silent=not trainer.accelerator.is_main_process)
    display.start(trainer.state.step)
    try:
        with graceful_signals(trainer), trainer.open_files():
            for index, planned in enumerate(trainer.plan.phases):
                if trainer.state.step < planned.start + planned.steps:
                    trainer.run_phase(index, display)
                if trainer.accelerator.is_main_process:
                    if index + 1 == len(trainer.plan.phases):
                        # before the last evaluation: should that fail, the model is there
                        with trainer.weights_for_use() as model:
                            save_model(model, trainer.tokenizer, trainer.folder / "model", loaded.resolved_yaml())
                    _finish_phase(trainer, index, display)
                trainer.accelerator.wait_for_everyone()
    finally:
        display.close()


def _check_data(recipe: Recipe, plan: Plan, tokenizer: PreTrainedTokenizerFast, processes: int) -> None:
    """Open what later phases and evaluations read, so that a wrong path, or rows that the processes cannot share evenly, stop
    the run now and not after hours."""
    for index in range(len(plan.phases)):
        PhaseLoader(recipe, plan, index, tokenizer, world=processes)
    check_tasks(recipe.evaluation.tasks, recipe)


def _decide(folder: Path, resume: str, say: Any) -> Path | None:
    if resume == "never":
        return None
    if resume == "auto":
        return checkpoint.newest_valid(folder / "checkpoints", say)
    if not (Path(resume) / "state.json").is_file():
        raise UserError(f"--resume {resume}: not a checkpoint", f"pass `auto`, `never` or a folder {folder}/checkpoints/step-…")
    check_manifest(Path(resume))
    return Path(resume)


def _finish_phase(trainer: Trainer, index: int, display: Display) -> None:
    """Sample grid and evaluation at the end of a phase; what an earlier session has written is left alone."""
    recipe, planned = trainer.recipe, trainer.plan.phases[index]
    end = planned.start + planned.steps
    if trainer.state.step > end:
        return
    if draws_images(recipe, index):
        sample(trainer, planned.name)
    write_atomically(trainer.folder / "data.json", json.dumps(trainer.state.report, indent=1))
    measure_phase(trainer, planned.name, display)


def _conclude(folder: Path, trainer: Trainer, say: Callable[[str], None]) -> None:
    """The last lines: what was reached, where to look, what to try next."""
    ends = {phase.start + phase.steps for phase in trainer.plan.phases}
    results: list[dict[str, Any]] = []
    for path in sorted((folder / "eval").glob("*.json")):
        try:
            results += read_results(path)
        except UserError as error:  # of an earlier session: no reason to end without a report
            say(f"left out: {error.message}")
    for result in sorted((r for r in results if r.get("step") is not None), key=lambda r: (r["step"], r["task"])):
        name, main = next(iter(result["metrics"].items()))
        found = f"{name} {main['value']:.3f}"
        if result["score"] is not None:
            found = f"{result['correct']}/{result['total']} = {result['score']:.1%}"
        where = result["phase"] if result["phase"] and result["step"] in ends else f"step {result['step']:,}"
        say(f"{result['name']} after {where}: {found}")
    for source, counts in trainer.state.report.items():
        if counts["skipped"]:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in counts["reasons"].items())
            say(f"skipped {counts['skipped']:,} rows of {source}: {reasons}")
    if grids := sorted((folder / "samples").glob("*.png")):
        say(f"samples: {grids[-1]}")
    say(f"report:  {write_report(folder)}")
    run = shlex.quote(str(folder))
    if prompts := trainer.recipe.training.sampling.prompts:
        say(f"next:    smoe generate {run} --prompt {shlex.quote(prompts[0])}")
    elif exports(trainer.recipe, trainer.plan):
        say(f"next:    smoe convert {run} exported --to understanding")
    else:
        say(f"next:    smoe report {run} --open")


def exports(recipe: Recipe, plan: Plan) -> bool:
    """Whether `smoe convert --to understanding` surely works. Whether it does for families with a pool of experts for each
    modality or with limits on groups of experts depends on the split, which only the command itself looks at."""
    backbone = plan.source.backbone
    changed = recipe.model.backbone.upcycle is not None or any(plan.promoted)
    simple = len(backbone.anatomy.pools) == 1 and backbone.limits[0] == 1
    return simple and not changed and "text" in plan.group_of

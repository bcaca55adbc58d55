"""`smoe eval --during`: train, and measure on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_cli.cli.common import load_and_compile
from smoe_cli.cli.train import start
from smoe_cli.errors import UserError

if TYPE_CHECKING:
    from smoe_cli.recipe.measures import EvalTask


def recipe_file(path: Path) -> Path:
    """The recipe that `path` is, or the whole one of the run directory that it is."""
    if path.is_dir() and not (path / "recipe.resolved.yaml").is_file():
        raise UserError(f"{path}: not a run directory", "--during trains: name a recipe, or the run that is to go on")
    return path / "recipe.resolved.yaml" if path.is_dir() else path


def train_during(path: Path, steps: str, tasks: Sequence[EvalTask] | None = None, batch_size: int | None = None) -> Path:
    """Train a recipe, or let a run directory go on, with `evaluation.during` set, and `tasks` and `batch_size` unless None.

    steps: `40,80`. Returns the run directory, in whose eval/ the results are. Raises RecipeError on steps that the run does not
    have, and UserError when it is past all of them.
    """
    if not steps.strip():
        raise UserError("--during: no steps", "name steps of the run: --during 40,80")
    overrides = [f"evaluation.during=[{steps}]"]
    if tasks is not None:
        written = [task.model_dump(mode="json", exclude_unset=True, exclude_none=True) for task in tasks]
        overrides.append(f"evaluation.tasks={json.dumps(written, ensure_ascii=False)}")
    if batch_size is not None:
        overrides.append(f"evaluation.batch_size={batch_size}")
    loaded, plan = load_and_compile(recipe_file(path), overrides)
    run = path if path.is_dir() else Path("runs") / loaded.recipe.name
    if (run / "recipe.resolved.yaml").is_file():
        from smoe_cli.train.checkpoint import newest_step
        from smoe_cli.train.measure import missed

        evaluation = loaded.recipe.evaluation
        if len(missed(run, evaluation, newest_step(run / "checkpoints"))) == len(evaluation.during):
            raise UserError(
                f"{run}: the run is past step {steps}", f"measure a checkpoint that is kept: smoe eval {run}/checkpoints/step-…"
            )
    if path.is_dir():
        loaded = replace(loaded, text=(run / "recipe.yaml").read_text(encoding="utf-8"))  # stays as its author wrote it
    return start(loaded, plan, run, "auto", lambda folder: ["smoe", "eval", str(folder), "--during", steps])

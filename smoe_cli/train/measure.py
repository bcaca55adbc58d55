"""Evaluation while a model is trained: the recipe's tasks, by the code of `smoe eval`, on the first process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_cli.errors import UserError
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.results import read_results, table
from smoe_cli.eval.run import evaluate, file_names
from smoe_cli.files import sha256, write_atomically
from smoe_cli.recipe.measures import Evaluation
from smoe_cli.train.progress import Display

if TYPE_CHECKING:
    from smoe_cli.train.loop import Trainer


def measure_step(trainer: Trainer, phase: str, display: Display) -> None:
    """What `evaluation.during` asks for: RUN/eval/step-00000040-<task>.json."""
    step = trainer.state.step
    _measure(trainer, phase, _prefix(step), f"step {step:,}", display)


def measure_phase(trainer: Trainer, phase: str, display: Display) -> None:
    """At the end of a phase: RUN/eval/<phase>-<task>.json."""
    _measure(trainer, phase, f"{phase}-", f"phase {phase}", display)


def missed(run: Path, evaluation: Evaluation, now: int) -> list[int]:
    """Steps of `evaluation.during` that a run at step `now` has passed without measuring what is asked."""
    passed = [step for step in evaluation.during if step < now]
    return [step for step in passed if len(_there(run, evaluation, _prefix(step))) < len(evaluation.tasks)]


def _prefix(step: int) -> str:
    return f"step-{step:08d}-"


def _measure(trainer: Trainer, phase: str, prefix: str, after: str, display: Display) -> None:
    """Measure what no earlier session has: a result stands if the same was asked of the same weights."""
    evaluation, out = trainer.recipe.evaluation, trainer.folder / "eval"
    asked = _asked(evaluation, prefix)
    with trainer.weights_for_use() as model:
        there = _there(trainer.folder, evaluation, prefix)
        weights = hash_weights(model) if there else None
        standing = {name for name in there if _weights_of(out / name) == weights}
        if len(standing) == len(asked):
            return
        for name in asked.keys() - standing:  # from here on, a result that is there was measured as the record says
            (out / name).unlink(missing_ok=True)
        write_atomically(_record(trainer.folder, prefix), json.dumps(asked))
        display.say(f"evaluating after {after} …")
        identity = {
            "path": str(trainer.folder),
            "kind": "symbiotic",
            "recipe": trainer.recipe.name,
            "recipe_sha256": sha256(trainer.folder / "recipe.resolved.yaml"),
            "weights": "averaged" if trainer.average else "as trained",
        }
        results = evaluate(
            OpenModel(model, trainer.tokenizer, identity=identity),
            evaluation.tasks,
            out,
            prefix=prefix,
            standing=standing,
            phase=phase,
            step=trainer.state.step,
            batch_size=evaluation.batch_size,
        )
    display.console.print(table(results))


def _asked(evaluation: Evaluation, prefix: str) -> dict[str, Any]:
    """{file of the result: the task as the recipe has it}."""
    tasks = evaluation.tasks
    return {name: task.model_dump(mode="json") for name, task in zip(file_names(prefix, tasks), tasks, strict=True)}


def _record(run: Path, prefix: str) -> Path:
    """Where it is kept what was asked."""
    return run / "eval" / "data" / f"{prefix}tasks.json"


def _there(run: Path, evaluation: Evaluation, prefix: str) -> set[str]:
    """Files of results that an earlier session has written of the same tasks."""
    record = _record(run, prefix)
    earlier = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    asked = _asked(evaluation, prefix)
    return {name for name in asked if earlier.get(name) == asked[name] and (run / "eval" / name).exists()}


def _weights_of(path: Path) -> str | None:
    """Hash of the weights that a result was measured with; None of a result in another format, which is measured again."""
    try:
        return str(read_results(path)[0]["model"]["sha256"])
    except (UserError, KeyError, TypeError):
        return None

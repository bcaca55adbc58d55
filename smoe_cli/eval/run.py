"""Evaluate a model on several tasks: during training, at the end of a phase, and from `smoe eval`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from smoe_cli.eval.drawing.clip_score import run_clip_score
from smoe_cli.eval.drawing.drawn_text import run_drawn_text
from smoe_cli.eval.drawing.image_distance import run_image_distance
from smoe_cli.eval.models import Asking, OpenModel
from smoe_cli.eval.ocr.run import run_ocr, run_rendered
from smoe_cli.eval.predictions import write_predictions
from smoe_cli.eval.provenance import hash_weights, now, versions
from smoe_cli.eval.results import Result, write_json
from smoe_cli.eval.text.multiple_choice import BENCHMARKS
from smoe_cli.eval.text.run import run_text
from smoe_cli.recipe.measures import (
    BitsPerByte,
    ClipScore,
    DrawingTask,
    DrawnText,
    EvalTask,
    ImageDistance,
    Mmlu,
    OcrBench,
    RenderedOcr,
)

Progress = Callable[[str, int, int], None]
"""Called with (task, questions done, questions in all)."""

RUNNERS: dict[type, Callable[..., Result]] = {
    Mmlu: run_text,
    **dict.fromkeys(BENCHMARKS, run_text),
    BitsPerByte: run_text,
    OcrBench: run_ocr,
    RenderedOcr: run_rendered,
    DrawnText: run_drawn_text,
    ImageDistance: run_image_distance,
    ClipScore: run_clip_score,
}
"""Task → what measures it: called with an `Asking` and the task."""

NEUTRAL = {"engine": "native", "shots": 0, "limit": None, "seed": None}
"""What a protocol says of a task to which it does not apply."""


def evaluate(
    opened: OpenModel,
    tasks: Sequence[EvalTask],
    out_dir: Path | None = None,
    *,
    prefix: str = "",
    standing: Collection[str] = (),
    phase: str | None = None,
    step: int | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
    done: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Measure a model on each task, in evaluation mode, and write each result, and tell `done`, as soon as it is there.

    out_dir: `<prefix><task>.json`, and beside it `<prefix><task>.predictions.jsonl`, go here; `data/<source>/` holds drawn
    questions; None writes nothing. standing: names of such files that are there already, whose tasks are left out. The model's
    mode is left as it was. Raises UserError on bad data and on a model without what a task needs.
    """
    check_able(opened, tasks)
    results: list[Result] = []
    weights = hash_weights(opened.model) if tasks else None
    with evaluating(opened.model):
        for task, name in zip(tasks, file_names(prefix, tasks), strict=True):
            if name in standing:
                continue
            start = time.monotonic()
            tell = (lambda done, total, task=task: progress(task.task, done, total)) if progress else None
            found = RUNNERS[type(task)](Asking(opened, batch_size, out_dir, tell, Path(name).stem), task)
            result = dataclasses.replace(signed(found, opened, weights, batch_size, start), phase=phase, step=step)
            results.append(result if out_dir is None else write(result, out_dir / name))
            if done:
                done(results[-1])
    return results


def check_able(opened: OpenModel, tasks: Sequence[EvalTask]) -> None:
    """Raise UserError, before any task is measured, when the model does not see or does not draw what one of them asks."""
    for task in tasks:
        if isinstance(task, OcrBench | RenderedOcr):
            opened.reader(task.task)
        elif isinstance(task, DrawingTask):
            opened.drawer(task.task)


def signed(found: Result, opened: OpenModel, weights: str | None, batch_size: int, start: float) -> Result:
    """A task's result with what every result says: precision, circumstances, model, versions, time.

    weights: `hash_weights` of the model. start: by `time.monotonic`.
    """
    return dataclasses.replace(
        found,
        protocol={**NEUTRAL, **found.protocol, "dtype": str(next(opened.model.parameters()).dtype).removeprefix("torch.")},
        circumstances={**opened.circumstances(batch_size), **found.circumstances},
        model={**opened.identity, "sha256": weights},
        versions={**versions(), **found.versions},
        time=now(),
        seconds=time.monotonic() - start,
    )


def write(result: Result, path: Path) -> Result:
    """Write a result, and its predictions beside it first; the result that was written is returned."""
    if result.predictions:
        beside = path.with_suffix(".predictions.jsonl")
        write_predictions(beside, {result.task: result.predictions})
        result = dataclasses.replace(result, predictions_file=beside.name)
    write_json(path, result.to_dict())
    return result


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def file_names(prefix: str, tasks: Sequence[EvalTask]) -> list[str]:
    """`<prefix><task>.json` for each task, with a number from the second task of the same name on."""
    bases = [f"{prefix}{task.task}" for task in tasks]
    numbers = [bases[: i + 1].count(base) for i, base in enumerate(bases)]
    return [f"{base}.json" if n == 1 else f"{base}-{n}.json" for base, n in zip(bases, numbers, strict=True)]

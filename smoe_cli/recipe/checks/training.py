"""Training options and evaluation tasks that fit the model and the data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from smoe_cli.recipe.checks.drawing import check_drawing
from smoe_cli.recipe.checks.experts import repeated
from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.measures import BitsPerByte, ChoiceTask, DrawingTask, Mmlu, RenderedOcr
from smoe_cli.recipe.models import PythonDocs, Recipe, RenderedText
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import did_you_mean


def check_training(recipe: Recipe) -> Iterator[Problem]:
    """Trackers and sampling."""
    yield from repeated(recipe.training.trackers, ("training", "trackers"))
    low, high = recipe.training.sampling.guidance_interval
    if low >= high:
        message = f"guidance is used for low < t ≤ high; between {low:g} and {high:g} lies nothing"
        yield Problem(("training", "sampling", "guidance_interval"), message, "for no guidance, write `guidance: 1`")


def check_evaluation(recipe: Recipe) -> Iterator[Problem]:
    """Tasks, and the steps at which they are measured."""
    tasks = recipe.evaluation.tasks
    for index, task in enumerate(tasks):
        path: Path = ("evaluation", "tasks", index)
        if task in tasks[:index]:
            yield Problem(path, f"this `{task.task}` task is listed twice")
        if not isinstance(task, Mmlu | ChoiceTask | BitsPerByte | DrawingTask) and recipe.model.vision is None:
            yield Problem((*path, "task"), f"task `{task.task}` needs `model.vision`, which the model lacks")
        if isinstance(task, RenderedOcr):
            yield from _rendered(recipe, task, path)
        if isinstance(task, BitsPerByte):
            yield from _bits(recipe, task, path)
        if isinstance(task, DrawingTask):
            yield from check_drawing(recipe, task, path)
    yield from _during(recipe)


def _during(recipe: Recipe) -> Iterator[Problem]:
    ends = list(accumulate(phase.steps for phase in recipe.phases))
    before = -1
    for index, step in enumerate(recipe.evaluation.during):
        path: Path = ("evaluation", "during", index)
        if step in ends:
            phase = recipe.phases[ends.index(step)].name
            yield Problem(path, f"phase `{phase}` ends after step {step:,}, where tasks are measured anyway", "leave it out")
        elif step > ends[-1]:
            yield Problem(path, f"the run ends after step {ends[-1]:,}", "name steps of the run, counted over all phases")
        elif step <= before:
            yield Problem(path, f"step {step:,} is listed after step {before:,}", "list steps in ascending order, each once")
        before = max(before, step)


def _rendered(recipe: Recipe, task: RenderedOcr, path: Path) -> Iterator[Problem]:
    sources = recipe.data.sources
    known = [name for name, source in sources.items() if isinstance(source, RenderedText) and source.task == "mmu"]
    wanted = "sources of kind `rendered-text` with task `mmu`"
    if task.source not in sources:
        help = did_you_mean(task.source, known, wanted) if known else f"there are no {wanted}"
        yield Problem((*path, "source"), f"unknown source `{task.source}`", help)
        return
    source = sources[task.source]
    if not isinstance(source, RenderedText) or source.task != "mmu":
        message = f"`{task.source}` has kind `{source.kind}` and task `{source.task}`"
        help = f"{wanted}: {', '.join(f'`{name}`' for name in known)}" if known else f"there are no {wanted}"
        yield Problem((*path, "source"), message, help)
    elif source.split == "heldout":
        message = f"`{task.source}` trains on the held-out strings, which this task measures"
        yield Problem((*path, "source"), message, "name a source with `split: train`")


def _bits(recipe: Recipe, task: BitsPerByte, path: Path) -> Iterator[Problem]:
    sources = recipe.data.sources
    if (task.source is None) == (task.data is None):
        found = "both are" if task.data else "neither is"
        yield Problem(path, f"`bits-per-byte` needs `source` or `data`, and {found} given", "name one of them")
        return
    if task.source is None:
        return
    known = [name for name, source in sources.items() if isinstance(source, PythonDocs) and source.split == "train"]
    if task.source not in sources:
        wanted = "sources of kind `python-docs` with `split: train`"
        help = did_you_mean(task.source, known, wanted) if known else f"there are no {wanted}"
        yield Problem((*path, "source"), f"unknown source `{task.source}`", help)
    elif task.source not in known:
        source = sources[task.source]
        message = f"`{task.source}` keeps no text back that could be measured"
        help = "set its `split: train`" if isinstance(source, PythonDocs) else "name a file of texts with `data`"
        yield Problem((*path, "source"), message, help)
    elif other := [name for name, source in sources.items() if isinstance(source, PythonDocs) and source.split != "train"]:
        message = f"`{other[0]}` trains on the held-out passages, which this task measures"
        yield Problem((*path, "source"), message, "set its `split: train`")

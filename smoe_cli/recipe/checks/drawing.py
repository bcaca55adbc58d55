"""Evaluation tasks that have the model draw."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.measures import DrawingTask, DrawnText
from smoe_cli.recipe.models import Recipe, RenderedText
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import did_you_mean


def check_drawing(recipe: Recipe, task: DrawingTask, path: Path) -> Iterator[Problem]:
    """The model draws, and the task has one place for its captions, which the model was not trained on if that can be known."""
    if recipe.model.latents is None:
        yield Problem((*path, "task"), f"task `{task.task}` needs `model.latents`, which the model lacks")
    sources = recipe.data.sources
    strings = isinstance(task, DrawnText)
    if not isinstance(task, DrawnText) and (task.source is None) == (task.data is None):
        found = "both are" if task.data else "neither is"
        yield Problem(path, f"`{task.task}` needs `source` or `data`, and {found} given", "name one of them")
        return
    if task.source is None:
        return
    wanted = "sources of kind `rendered-text` with task `t2i`" if strings else "sources with task `t2i`"
    known = [name for name, one in sources.items() if one.task == "t2i" and (isinstance(one, RenderedText) or not strings)]
    if task.source not in sources:
        help = did_you_mean(task.source, known, wanted) if known else f"there are no {wanted}"
        yield Problem((*path, "source"), f"unknown source `{task.source}`", help)
        return
    source = sources[task.source]
    if task.source not in known:
        message = f"`{task.source}` has kind `{source.kind}` and task `{source.task}`"
        help = f"{wanted}: {', '.join(f'`{name}`' for name in known)}" if known else f"there are no {wanted}"
        yield Problem((*path, "source"), message, help)
    elif getattr(source, "split", None) == "heldout":
        message = f"`{task.source}` trains on the held-out captions, which this task measures"
        yield Problem((*path, "source"), message, "name a source with `split: train`")

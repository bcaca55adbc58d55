"""Sources that fit the model, are used, and fit into a row."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.measures import BitsPerByte, DrawingTask, RenderedOcr
from smoe_cli.recipe.models import FreshVision, Recipe, RenderedText
from smoe_cli.recipe.sizes import least_tokens, patches
from smoe_cli.recipe.tree import Path

_NEEDS = {"mmu": "vision", "t2i": "latents"}


def check_data(recipe: Recipe) -> Iterator[Problem]:
    """Row length and sources."""
    length, scratch, vision = recipe.data.sequence_length, recipe.model.backbone.scratch, recipe.model.vision
    if scratch is not None and length > (longest := scratch.max_position_embeddings):
        message = f"rows of {length} tokens, but `max_position_embeddings` is {longest}"
        yield Problem(("data", "sequence_length"), message, "raise `max_position_embeddings`, or shorten the rows")
    used = {name for phase in recipe.phases for name in phase.mixture}
    measured = (task for task in recipe.evaluation.tasks if isinstance(task, RenderedOcr | BitsPerByte | DrawingTask))
    used |= {task.source for task in measured if task.source is not None}
    for name, source in recipe.data.sources.items():
        path: Path = ("data", "sources", name)
        if name not in used:
            message = f"`{name}` has no effect: no phase has it in its mixture"
            yield Problem(path, message, "add it to a mixture, or remove it", key=True)
        part = _NEEDS.get(source.task)
        if part and getattr(recipe.model, part) is None:
            yield Problem((*path, "task"), f"task `{source.task}` needs `model.{part}`, which the model lacks")
        if isinstance(source, RenderedText) and source.length[0] > source.length[1]:
            shortest, longest_text = source.length
            help = f"`length` is [shortest, longest]: did you mean `[{longest_text}, {shortest}]`?"
            yield Problem((*path, "length"), f"the shortest, {shortest}, is longer than the longest, {longest_text}", help)
        if source.task == "mmu" and not isinstance(vision, FreshVision | None):
            continue  # its tokens are known to the plan
        vit_tokens = patches(vision.image_size, vision.patch_size) if isinstance(vision, FreshVision) else 0
        needed, sum_ = least_tokens(recipe, source, vit_tokens)
        if needed > length:
            message = f"a sample of `{name}` takes {needed} tokens or more ({sum_}), a row has {length}"
            yield Problem(
                ("data", "sequence_length"), message, "samples are never cut: lengthen the rows, or use larger patches"
            )

"""First values of a symbiotic model, a few rows at a time: what `build_model` gives, without building the backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from smoe_cli.model.attachments import attachments
from smoe_cli.model.vision import load_vision
from smoe_cli.model.weights import Reader, derive, draw, finite, read_origin, saved_tensors
from smoe_cli.plan import Plan
from smoe_cli.plan.types import Tensor as Planned
from smoe_cli.recipe.models import PretrainedVision, Recipe

CHUNK = 1 << 22
"""Values that are read at a time: one expert, as a rule. Blocks of one size leave no gaps in the memory of the process."""


def fresh_parts(recipe: Recipe, plan: Plan) -> dict[str, Tensor]:
    """Vision encoder, projector and latent interface, float32, by their names in the model.

    They are drawn one after the other from the recipe's seed, as `SymbioticModel` does after a backbone that draws nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        modules = attachments(recipe, plan)
    if isinstance(recipe.model.vision, PretrainedVision):
        load_vision(modules["vision"], recipe.model.vision, plan)  # type: ignore[arg-type]
    return {f"{part}.{name}": tensor for part, module in modules.items() for name, tensor in saved_tensors(module).items()}


def parts(tensor: Planned, plan: Plan, recipe: Recipe, reader: Reader) -> Iterator[Tensor]:
    """The first value of one of the backbone's tensors, float32, as consecutive rows.

    Whole only where noise, which depends on all of it, is added, or where several tensors are joined. Raises UserError naming a
    tensor that is not finite.
    """
    origin = tensor.origin
    if origin is None:
        upcycle = recipe.model.backbone.upcycle
        assert upcycle is not None, f"`{tensor.name}` has no origin"
        yield draw(tensor.shape, upcycle.router_std, recipe.seed, tensor.name)
    elif origin.built is not None:
        source = next(other for other in plan.tensors if other.name == origin.built)
        yield derive(torch.cat([*parts(source, plan, recipe, reader)]), origin, recipe.seed, tensor.name)
    elif origin.copies is not None and not origin.noise:
        value = read_origin(reader, replace(origin, copies=None), recipe.seed, tensor.name)
        for _ in range(origin.copies):
            yield value[None]
    elif len(origin.names) > 1 or origin.axis != 0 or origin.noise or not tensor.shape:
        yield read_origin(reader, origin, recipe.seed, tensor.name)
    else:
        for start, end in _runs(origin.rows or range(tensor.shape[0]), max(1, CHUNK * tensor.shape[0] // tensor.numel)):
            yield finite(reader.chunk(origin.names[0], start, end) * origin.scale, reader, origin)


def _runs(rows: Sequence[int], longest: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the consecutive runs that `rows` is made of, each of at most `longest`."""
    start = end = rows[0]
    for row in rows:
        if row != end or end - start == longest:
            yield start, end
            start = row
        end = row + 1
    yield start, end

"""From a plan to a model with its first weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from smoe_cli.errors import Failure, UserError
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.vision import load_vision
from smoe_cli.model.weights import load_backbone, saved_tensors
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import PretrainedVision, Recipe

Shape = tuple[int, ...]


def build_model(recipe: Recipe, plan: Plan, weights: bool = True) -> SymbioticModel:
    """A model with its first weights: those of the checkpoint, and fresh ones that are a function of the recipe's seed alone.

    The global random state is left as it was. weights: False leaves the checkpoint unread, for a model that is filled from
    elsewhere; what it would have filled is NaN. Raises UserError when the checkpoint's tensors are not those of its config, and
    Failure if a tensor of the model is not the one that the plan announced.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = SymbioticModel(recipe, plan)
    if weights and isinstance(recipe.model.vision, PretrainedVision):
        assert model.vision is not None
        load_vision(model.vision, recipe.model.vision, plan)  # names what does not fit, which the check below cannot
    check_against_plan(model, plan)
    if weights and recipe.model.backbone.scratch is None:
        load_backbone(model, recipe, plan)
    return model


def check_against_plan(model: nn.Module, plan: Plan) -> None:
    """Every tensor of the model is announced by the plan, with its shape, and the other way round.

    The plan has them from the checkpoint, the model from the config in it. Names inside a vision encoder from scratch vary with
    the version of transformers; their shapes are compared as a whole.
    """
    planned, planned_vision = _inventory((t.name, tuple(t.shape)) for t in plan.tensors)
    built, built_vision = _inventory((name, tuple(t.shape)) for name, t in saved_tensors(model).items())
    if planned == built and planned_vision == built_vision:
        return
    if plan.source.backbone.sha256 is not None and planned != built:
        plain = {t.name: t.origin.names[0] for t in plan.tensors if t.origin is not None and t.origin.names}
        raise UserError(
            f"the checkpoint's tensors are not those of its config: {_differences(planned, built, plain)}",
            "config.json and the safetensors files do not belong together, or the files are incomplete",
        )
    if plan.source.vision is not None and planned == built:
        raise UserError(
            "the vision encoder's tensors are not those of its config", "its config.json and its safetensors files do not fit"
        )
    differing = sorted(set(planned.items()) ^ set(built.items()))[:5] or "shapes within vision.*"
    raise Failure(
        f"the built model differs from its plan: {differing}", "this is a bug in smoe; please report it with the recipe"
    )


def _inventory(tensors: Iterable[tuple[str, Shape]]) -> tuple[dict[str, Shape], list[Shape]]:
    named, vision = dict[str, Shape](), list[Shape]()
    for name, shape in tensors:
        if name.startswith("vision."):
            vision.append(shape)
        else:
            named[name] = shape
    return named, sorted(vision)


def _differences(planned: dict[str, Shape], built: dict[str, Shape], plain: dict[str, str]) -> str:
    """In the checkpoint's names. plain: {our name: the checkpoint's}."""

    def name(ours: str) -> str:
        return plain.get(ours, ours.removeprefix("backbone."))

    differences = [f"`{name(n)}` is missing" for n in built if n not in planned]
    differences += [f"`{name(n)}` has no place in it" for n in planned if n not in built]
    differences += [
        f"`{name(n)}` has shape {shape} where it asks for {built[n]}"
        for n, shape in planned.items()
        if built.get(n, shape) != shape
    ]
    more = f" … and {len(differences) - 5} more" if len(differences) > 5 else ""
    return "; ".join(differences[:5]) + more

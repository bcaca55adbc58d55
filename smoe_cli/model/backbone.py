"""The decoder: a transformers model, built from its config, after surgery."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from smoe_cli.families import anatomy_of
from smoe_cli.model.refusal import refusal
from smoe_cli.model.surgery import operate
from smoe_cli.model.upcycle import make_sparse, upcycled_anatomy
from smoe_cli.model.weights import derive, draw, saved_tensors
from smoe_cli.plan import Origin, Plan
from smoe_cli.recipe.models import Recipe, Shared
from smoe_cli.recipe.nodes import MODALITIES


def backbone_config(config: Mapping[str, Any]) -> PretrainedConfig:
    """transformers' config object of a config.json."""
    return CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))


def plain_backbone(recipe: Recipe, plan: Plan, dtype: torch.dtype = torch.float32, empty: bool = True) -> PreTrainedModel:
    """The model before surgery: with fresh weights, or, when a checkpoint will fill it and `empty`, on the meta device with its
    buffers in place. Then it leaves the global random state alone, although some families draw in their constructors.

    Raises UserError when transformers refuses a checkpoint's config.
    """
    backbone, training, spec = plan.source.backbone, recipe.training, recipe.model.backbone
    kernels: dict[str, Any] = {"attn_implementation": training.attention, "dtype": dtype}
    if spec.upcycle is None:  # a dense model has no experts whose kernel could be chosen
        kernels["experts_implementation"] = training.experts
    auto = AutoModelForImageTextToText if backbone.anatomy.multimodal else AutoModelForCausalLM
    if spec.checkpoint is None:
        return auto.from_config(backbone_config(backbone.config), **kernels)
    with refusal(spec.checkpoint.path), _unfilled() if empty else nullcontext():
        model = auto.from_config(backbone_config(backbone.config), **kernels)
        if spec.upcycle is not None:
            make_sparse(model, spec.upcycle, training.experts)
    return model


@contextmanager
def _unfilled() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        yield


def receivers(recipe: Recipe) -> Sequence[str]:
    """The modalities whose tokens get the output of the always-on experts; () where the recipe leaves them out."""
    shared = recipe.model.shared
    return shared.modalities if isinstance(shared, Shared) else () if shared == "none" else MODALITIES


def skeleton(recipe: Recipe, plan: Plan, dtype: torch.dtype = torch.float32, empty: bool = True) -> PreTrainedModel:
    """The decoder after surgery, without a checkpoint's weights. dtype, empty: see `plain_backbone`.

    Raises UserError when config and tensors do not fit together.
    """
    model, spec = plain_backbone(recipe, plan, dtype, empty), recipe.model.backbone
    family = plan.source.backbone.family
    anatomy = upcycled_anatomy(family, spec.upcycle) if spec.upcycle is not None else anatomy_of(family)
    return operate(model, plan, receivers(recipe), anatomy)


def build_backbone(recipe: Recipe, plan: Plan) -> PreTrainedModel:
    """The decoder after surgery. What a checkpoint has to fill holds NaN; everything else has its first value.

    Fresh weights from scratch depend on the global random state, everything else that is random on the recipe's seed. Raises
    UserError when the checkpoint's config and its tensors do not fit together.
    """
    model = skeleton(recipe, plan)
    if recipe.model.backbone.scratch is None:
        _poison(model)
    _fill_fresh(model, recipe, plan)
    return model


@torch.no_grad()
def _poison(model: PreTrainedModel) -> None:
    """NaN in every tensor that a file holds: whatever is not filled later cannot go unnoticed."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.full(parameter.shape, math.nan, dtype=torch.float32)
                module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for tensor in saved_tensors(model).values():
        tensor.fill_(math.nan)
    model.tie_weights()


@torch.no_grad()
def _fill_fresh(model: PreTrainedModel, recipe: Recipe, plan: Plan) -> None:
    """What no checkpoint holds: routers of an upcycled model, then copies of what is fresh itself, and the noise on them."""
    own = saved_tensors(model)
    noise = {f"{kind}.{g.name}": g.noise for g in plan.groups for kind in ("router", "experts") if g.noise}
    planned = [(t.name.removeprefix("backbone."), t) for t in plan.tensors if t.name.startswith("backbone.")]
    for name, tensor in planned:
        if tensor.origin is None and recipe.model.backbone.upcycle is not None:
            own[name].copy_(draw(tensor.shape, recipe.model.backbone.upcycle.router_std, recipe.seed, tensor.name))
    for name, tensor in planned:
        if recipe.model.backbone.scratch is not None and tensor.role in noise:  # surgery has copied the rows
            own[name].copy_(derive(own[name], Origin(noise=noise[tensor.role]), recipe.seed, tensor.name))
        if tensor.origin is not None and tensor.origin.built is not None:
            source = own[tensor.origin.built.removeprefix("backbone.")]
            own[name].copy_(derive(source, tensor.origin, recipe.seed, tensor.name))

"""Recipes and models around the small checkpoints of `tests.families.tiny`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from smoe_cli.families import open_checkpoint, read_backbone
from smoe_cli.model.backbone import build_backbone
from smoe_cli.model.weights import load_backbone
from smoe_cli.plan import Plan, Source, compile_plan
from smoe_cli.recipe.models import Recipe
from tests.families.tiny import DENSE_FAMILIES, MULTIMODAL_FAMILIES
from tests.helpers import tiny_data

EVERYTHING = ["text", "vit", "vae"]


def pretrained(folder: Path, groups: list[dict[str, Any]] | None = None, **changes: Any) -> Recipe:
    """Text only. groups: default, one that holds every expert and serves every modality. changes: dotted paths."""
    if not read_backbone(open_checkpoint(str(folder))).has_shared:
        changes = {"model.shared": "none", **changes}
    return around({"pretrained": {"path": str(folder)}}, groups or one_group(folder), **changes)


def upcycled(folder: Path, groups: list[dict[str, Any]], spec: dict[str, Any], **changes: Any) -> Recipe:
    """The dense checkpoint in `folder`, upcycled as `spec` says."""
    return around({"upcycle": {"from": str(folder), **spec}}, groups, **changes)


def around(backbone: dict[str, Any], groups: list[dict[str, Any]], **changes: Any) -> Recipe:
    """A recipe with this backbone, without vision and latents."""
    return Recipe.model_validate(data_around(backbone, groups, **changes))


def data_around(backbone: dict[str, Any], groups: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The same, as a plain tree."""
    data = tiny_data(**{"model.backbone": backbone, "model.groups": groups})
    for key in ("shared", "vision", "latents"):
        del data["model"][key]
    data["data"]["sources"] = {"prose": data["data"]["sources"]["prose"]}
    data["phases"] = [
        {"name": "text", "steps": 2, "tokens_per_step": 128, "mixture": {"prose": 1}, "learning_rate": {"default": 1e-3}}
    ]
    data["training"] = {"log_every": 1, "checkpoints": {"every": 1}}
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = data
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return data


def experts_of(folder: Path) -> int:
    """Routed experts of a layer, over all pools."""
    return read_backbone(open_checkpoint(str(folder))).num_experts


def one_group(folder: Path) -> list[dict[str, Any]]:
    """One group with every expert for every modality."""
    return [{"name": "all", "modalities": EVERYTHING, "experts": experts_of(folder)}]


def split(folder: Path, first: list[int]) -> list[dict[str, Any]]:
    """These experts for text and vit, the rest for vae."""
    rest = experts_of(folder) - len(first)
    return [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": len(first), "select": first},
        {"name": "generation", "modalities": ["vae"], "experts": rest},
    ]


def decoder(recipe: Recipe, source: Source | None = None) -> tuple[PreTrainedModel, Plan]:
    """The decoder after surgery with the checkpoint's weights, in training mode, and its plan."""
    plan = compile_plan(recipe, source=source)
    holder = nn.Module()
    holder.backbone = build_backbone(recipe, plan)
    load_backbone(holder, recipe, plan)
    return holder.backbone.train(), plan


def plain(folder: Path, recipe: Recipe) -> PreTrainedModel:
    """The same checkpoint, loaded and run by transformers alone, in training mode.

    Its loader leaves tensors where they lie in a mapped file. Weights are moved to addresses as round as ours: on some CPUs the
    last bit of a matrix product depends on them.
    """
    family = json.loads((folder / "config.json").read_text())["model_type"]
    auto = AutoModelForImageTextToText if family in MULTIMODAL_FAMILIES else AutoModelForCausalLM
    kernels = {} if family in DENSE_FAMILIES else {"experts_implementation": recipe.training.experts}
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation=recipe.training.attention, **kernels)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model.train()


def tokens(rows: int = 3, length: int = 17, seed: int = 0) -> Tensor:
    """Random token ids (rows, length)."""
    return torch.randint(5, 261, (rows, length), generator=torch.Generator().manual_seed(seed))


def gradient_pairs(model: nn.Module, plan: Plan, reference: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, our gradient, the same rows of the plain model's) for every tensor that the plan carries over unchanged."""
    ours, theirs = dict(model.named_parameters()), dict(reference.named_parameters())
    for tensor in plan.tensors:
        origin = tensor.origin
        if origin is None or len(origin.names) != 1 or origin.names[0] not in theirs:
            continue
        got, expected = ours[tensor.name.removeprefix("backbone.")].grad, theirs[origin.names[0]].grad
        if got is None and expected is None:  # not trained: selection biases that are parameters
            continue
        assert got is not None, tensor.name
        expected = torch.zeros_like(theirs[origin.names[0]]) if expected is None else expected
        if origin.rows is not None:
            expected = expected.index_select(origin.axis, torch.tensor(origin.rows))
        yield tensor.name, got, expected

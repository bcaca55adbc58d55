"""The model that a run's checkpoint holds. `smoe_cli.train.checkpoint` writes them, and reads them to go on with training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_cli.errors import UserError
from smoe_cli.recipe import load

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.model.model import SymbioticModel

STATE, WEIGHTS, AVERAGES = "state.json", "model.safetensors", "ema.safetensors"
RESOLVED = "recipe.resolved.yaml"


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds, as far as it can be used: in evaluation mode, on the CPU."""

    model: SymbioticModel
    tokenizer: PreTrainedTokenizerFast
    step: int
    averaged: bool
    """Whether the weights are the averages that the run keeps (`training.ema`), as in its final model."""


def is_checkpoint(folder: Path) -> bool:
    """Whether this is a checkpoint of a run, whole or not."""
    return (folder / STATE).is_file()


def recipe_file(folder: Path) -> Path:
    """The recipe of the run that a checkpoint belongs to. Raises UserError when the checkpoint stands alone."""
    file = folder.resolve().parent.parent / RESOLVED
    if not file.is_file():
        raise UserError(
            f"{folder}: a checkpoint without its run: no {file}", "leave it in <run>/checkpoints, or copy the whole run"
        )
    return file


def load_checkpoint(folder: Path) -> Saved:
    """The model at a step of a run: the averaged weights if the run keeps them, as its evaluations use them.

    The backbone's original weights are not read; their config and tokenizer are, from where the recipe says. Raises UserError
    naming what is missing, damaged or in excess.
    """
    # imported here: to find a checkpoint and its recipe, as every `smoe eval` does first, takes no torch
    from smoe_cli.data.special import tokenizer_of
    from smoe_cli.model.build import build_model
    from smoe_cli.model.folder import check_manifest
    from smoe_cli.model.io import copy_into, read_tensors
    from smoe_cli.plan import compile_plan

    loaded = load(recipe_file(folder))
    check_manifest(folder)
    step = _step(folder / STATE)
    plan = compile_plan(loaded.recipe)
    model = build_model(loaded.recipe, plan, weights=False)
    tensors, file = read_tensors(folder / WEIGHTS), folder / WEIGHTS
    averaged = loaded.recipe.training.ema is not None
    if averaged:
        file = folder / AVERAGES
        tensors |= read_tensors(file)  # every parameter; what is no parameter has no average
    copy_into(model, tensors, str(file))
    return Saved(model.eval(), tokenizer_of(loaded.recipe, plan), step, averaged)


def _step(file: Path) -> int:
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: unreadable ({error})", "measure another checkpoint") from error

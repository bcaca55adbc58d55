"""Checkpoints: everything a run needs to go on exactly where it was. Safetensors and JSON only; written atomically.

checkpoints/step-00000500/
  model.safetensors      parameters by name
  optimizer.safetensors  <parameter>.exp_avg, .exp_avg_sq, .step
  ema.safetensors        averaged weights, if the recipe asks for them
  extra.safetensors      sums of the running log window, load fractions, random states
  state.json             step, counters, position in the data of every lane
  manifest.json          size and SHA-256 of each file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from smoe_cli.errors import UserError
from smoe_cli.model.io import atomic_folder, check_manifest, copy_into, own_tensors, read_tensors, write_manifest

PREFIX = "step-"
VERSION = 1


@dataclass
class State:
    """What a checkpoint holds besides weights and optimizer.

    data: position of every lane in the current phase; report: rows drawn and skipped in finished phases; extra: small tensors.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    ema_updates: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)


def folders(root: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(p for p in root.glob(f"{PREFIX}*") if p.is_dir() and p.name[len(PREFIX) :].isdigit())


def newest_step(root: Path) -> int:
    """Step of the newest checkpoint, whether it is damaged or not; 0 if there is none."""
    return max((int(folder.name[len(PREFIX) :]) for folder in folders(root)), default=0)


def save(
    root: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor] | None, keep: int
) -> Path:
    """Write a checkpoint and delete all but the newest `keep`."""
    folder = root / f"{PREFIX}{state.step:08d}"
    names = {id(p): n for n, p in model.named_parameters()}
    moments = {f"{names[id(p)]}.{key}": value.contiguous() for p, s in optimizer.state.items() for key, value in s.items()}
    with atomic_folder(folder) as work:
        save_file(own_tensors(model), work / "model.safetensors")
        save_file(moments, work / "optimizer.safetensors")
        if ema is not None:
            save_file(ema, work / "ema.safetensors")
        save_file({n: t.contiguous() for n, t in state.extra.items()}, work / "extra.safetensors")
        fields = {k: v for k, v in vars(state).items() if k != "extra"}
        (work / "state.json").write_text(json.dumps({"version": VERSION, **fields}), encoding="utf-8")
        write_manifest(work)
    for old in folders(root)[:-keep]:
        shutil.rmtree(old)
    return folder


def set_aside(root: Path, step: int, say: Callable[[str], None]) -> None:
    """Rename checkpoints of later steps, which belong to a course that the run no longer follows, and clear unfinished ones.

    They would otherwise count as the newest: kept instead of those now written, and resumed from.
    """
    for folder in folders(root):
        if int(folder.name[len(PREFIX) :]) > step:
            names = (root / f"aside-{folder.name}{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
            aside = next(name for name in names if not name.exists())
            folder.rename(aside)
            say(f"set aside: {folder.name} is now {aside}")
    for unfinished in root.glob(f".{PREFIX}*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor] | None) -> State:
    """Load a checkpoint, whose manifest has been checked, into model, optimizer and averages.

    Raises UserError naming what is unreadable, missing or in excess.
    """
    try:
        fields = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if (version := fields.pop("version")) != VERSION:
            raise UserError(
                f"{folder}: a checkpoint of version {version}; this is version {VERSION}", "use the smoe that wrote it"
            )
        state = State(**fields)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder / 'state.json'}: unreadable ({error})", "resume from another checkpoint") from error
    copy_into(model, read_tensors(folder / "model.safetensors"), str(folder / "model.safetensors"))
    _restore_moments(folder / "optimizer.safetensors", model, optimizer)
    if ema is not None:
        averages = read_tensors(folder / "ema.safetensors")
        if averages.keys() != ema.keys():
            raise UserError(
                f"{folder / 'ema.safetensors'}: holds other tensors than the model", "resume from another checkpoint"
            )
        for name, tensor in ema.items():
            tensor.copy_(averages[name])
    state.extra = read_tensors(folder / "extra.safetensors")
    return state


def _restore_moments(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parameters = dict(model.named_parameters())
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    optimizer.state.clear()
    for key, value in read_tensors(path).items():
        name, _, moment = key.rpartition(".")
        parameter = parameters.get(name)
        if parameter is None or id(parameter) not in owned:
            raise UserError(
                f"{path}: `{key}` belongs to no parameter that this recipe trains", "resume from another checkpoint"
            )
        # torch keeps `step` on the CPU and the moments beside their parameter
        optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)


def newest_valid(root: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest undamaged checkpoint, or None if there is no checkpoint at all. Each damaged one is named through `warn`.

    Raises UserError if there are checkpoints and none is usable.
    """
    found = folders(root)
    for folder in reversed(found):
        try:
            check_manifest(folder)
            return folder
        except UserError as error:
            warn(f"checkpoint refused: {error.message}")
    if found:
        raise UserError(f"{root}: every checkpoint is damaged", "start again with --resume never")
    return None

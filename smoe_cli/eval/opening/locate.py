"""From what a user names to a model that is ready to be asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smoe_cli.errors import Failure, UserError
from smoe_cli.files import sha256

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.eval.models import OpenModel
    from smoe_cli.model.model import SymbioticModel
    from smoe_cli.recipe.models import Recipe

RECIPE_FILE = "smoe.yaml"
EXPECTED = (
    "MODEL is a run directory (runs/<name>), a checkpoint (runs/<name>/checkpoints/step-…), a model folder, a folder that "
    "transformers wrote, or a hub id such as org/name"
)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Found:
    """Where a model lies."""

    kind: Literal["model", "checkpoint", "plain"]
    folder: Path
    """Holds its weights."""
    revision: str | None = None
    """Of a model of the hub: its commit."""

    @property
    def recipe(self) -> Path | None:
        """The file with the recipe of one of ours. Raises UserError when a checkpoint has lost it."""
        from smoe_cli.model.checkpoint import recipe_file

        match self.kind:
            case "model":
                return self.folder / RECIPE_FILE
            case "checkpoint":
                return recipe_file(self.folder)
        return None


def find(path: Path) -> Found:
    """The model that a user names. One of the hub is downloaded into the hub's cache unless it is there.

    Raises UserError when there is none, naming what was looked for.
    """
    if not path.exists() and _HUB_ID.fullmatch(str(path)) and not path.parent.exists():
        from smoe_cli.families.locate import locate

        folder = locate(str(path))
        return replace(_at(folder), revision=folder.name)
    return _at(path)


def _at(path: Path) -> Found:
    from smoe_cli.model.checkpoint import is_checkpoint

    if is_plain(path):
        return Found("plain", path)
    return Found("checkpoint", path) if is_checkpoint(path) else Found("model", model_folder(path))


def model_folder(path: Path) -> Path:
    """The model folder that `path` is, or that the run directory `path` holds. Raises UserError when there is none."""
    if not path.is_dir():
        raise UserError(f"{path}: {'a file, not a folder' if path.exists() else 'no such folder'}", EXPECTED)
    for folder in (path, path / "model"):
        if (folder / RECIPE_FILE).is_file():
            return folder
    if (path / "metrics.jsonl").exists() or (path / "checkpoints").is_dir():
        saved = sorted((path / "checkpoints").glob("step-*"))
        other = f", or name a checkpoint: {saved[-1]}" if saved else ""
        raise UserError(
            f"{path}: this run has no final model yet", f"it is written when training ends; go on with `smoe train`{other}"
        )
    if saved := sorted(path.glob("step-*")):
        raise UserError(f"{path}: holds {len(saved)} checkpoint(s)", f"name one of them: {saved[-1]}")
    raise UserError(
        f"{path}: neither a model folder (no {RECIPE_FILE}), nor a run directory, nor a plain model (no config.json)", EXPECTED
    )


def is_plain(path: Path) -> bool:
    """Whether this is a folder of transformers' own, in which `smoe` has left nothing."""
    return (path / "config.json").is_file() and not any((folder / RECIPE_FILE).is_file() for folder in (path, path / "model"))


def run_directory(path: Path) -> Path | None:
    """The run directory that `path` is or whose final model or checkpoint it is, if any; other models that lie in one are not
    its own."""
    whole = path.resolve()
    run = path
    if not is_run(whole):
        run = whole.parents[1] if whole.parent.name == "checkpoints" else whole.parent if whole.name == "model" else path
    return run if is_run(run) else None


def is_run(path: Path) -> bool:
    """Whether a training has begun here."""
    return (path / "recipe.resolved.yaml").is_file()


def recipe_of(path: Path) -> Recipe | None:
    """The recipe of what a user names, read without loading any weights; None of a plain model. Raises UserError."""
    from smoe_cli.recipe import load

    file = find(path).recipe
    return None if file is None else load(file).recipe


def open_to_measure(path: Path, dtype: str = "float32") -> OpenModel:
    """What a user names, on the accelerator if there is one, computing in `dtype`.

    Raises UserError when there is no model, it is incomplete or damaged, or the device does not compute in this type.
    """
    from smoe_cli.eval.models import OpenModel

    found = find(path)
    facts: dict[str, Any] = {"revision": found.revision} if found.revision else {}
    if found.kind == "plain":
        from smoe_cli.eval.opening.plain import open_plain

        opened = OpenModel(*open_plain(found.folder, dtype))
    elif found.kind == "checkpoint":
        from smoe_cli.model.checkpoint import load_checkpoint

        saved = load_checkpoint(found.folder)
        facts |= {"step": saved.step, "weights": "averaged" if saved.averaged else "as trained"}
        opened = OpenModel(saved.model, saved.tokenizer)
    else:
        from smoe_cli.model.io import load_model

        opened = OpenModel(*load_model(found.folder)[:2])
    prepare(opened.model, dtype)
    if dtype != "float32":
        _check_computes(opened, path, dtype)
    return replace(opened, identity={**_identity(path, found, opened), **facts})


def _check_computes(opened: OpenModel, path: Path, dtype: str) -> None:
    """Score one token. Raises UserError when the device has no kernel for it, or numbers leave the range of the type."""
    import torch

    place, help = f"{path}: cannot be computed in {dtype} on {opened.model.device.type}", "pass --dtype float32"
    try:
        opened.scorer(1).log_likelihoods([((0, 0), (0,))])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, Failure) as error:
        raise UserError(f"{place}: {str(error).splitlines()[0]}", help) from error


def _identity(path: Path, found: Found, opened: OpenModel) -> dict[str, Any]:
    """Names a model in its results, by where it lies and its recipe."""
    return {
        "path": str(path),
        "kind": opened.kind,
        "recipe": opened.recipe.name if opened.recipe else None,
        "recipe_sha256": sha256(found.recipe) if found.recipe else None,
    }


def open_model(folder: Path) -> tuple[SymbioticModel, PreTrainedTokenizerFast]:
    """Load a model folder onto the accelerator, if there is one, in evaluation mode."""
    from smoe_cli.model.io import load_model

    model, tokenizer, _, _ = load_model(folder)
    return model.to(device()).eval(), tokenizer


def prepare(model: nn.Module, dtype: str) -> None:
    """Move a model to the accelerator, its parameters cast to `dtype`; buffers (rotary frequencies, selection biases) stay.

    Every parameter gets memory of its own: in the mapping of a file it may lie unaligned, and sums are then rounded otherwise.
    """
    import torch

    wanted = getattr(torch, dtype)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(wanted, copy=True)
    model.to(device())


def device() -> torch.device:
    """The accelerator, or the CPU."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")

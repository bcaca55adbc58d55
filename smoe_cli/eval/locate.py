"""From what a user names to a model that is ready to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smoe_cli.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.model.model import SymbioticModel

RECIPE_FILE = "smoe.yaml"


def model_folder(path: Path) -> Path:
    """The model folder that `path` is, or that the run directory `path` holds. Raises UserError when there is none."""
    if not path.exists():
        raise UserError(f"{path}: no such folder", "MODEL is a run directory (runs/<name>) or its folder `model`")
    for folder in (path, path / "model"):
        if (folder / RECIPE_FILE).is_file():
            return folder
    if (path / "metrics.jsonl").exists() or (path / "checkpoints").is_dir():
        raise UserError(f"{path}: this run has no final model yet", "it is written when training ends; go on with `smoe train`")
    raise UserError(f"{path}: neither a model folder (no {RECIPE_FILE}) nor a run directory", "see runs/<name>/model")


def run_directory(path: Path) -> Path | None:
    """The run directory that `path` is or whose model it is, if any."""
    for folder in (path, path.resolve().parent):
        if (folder / "recipe.resolved.yaml").is_file():
            return folder
    return None


def open_model(folder: Path) -> tuple[SymbioticModel, PreTrainedTokenizerFast]:
    """Load a model folder onto the accelerator, if there is one, in evaluation mode."""
    import torch

    from smoe_cli.model.io import load_model

    model, tokenizer, _, _ = load_model(folder)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return model.to(device or torch.device("cpu")).eval(), tokenizer

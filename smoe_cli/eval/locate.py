"""From what a user names to a model that is ready to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from smoe_cli.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

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


def is_plain(path: Path) -> bool:
    """Whether this is a folder of transformers' own, in which `smoe` has left nothing."""
    return (path / "config.json").is_file() and not any((folder / RECIPE_FILE).is_file() for folder in (path, path / "model"))


def open_plain(folder: Path) -> tuple[PreTrainedModel, Any]:
    """Load a causal language model of transformers in float32 onto the accelerator, if there is one, in evaluation mode.

    Raises UserError when transformers cannot, when a tensor is missing, or when the tokenizer is missing or reads no text.
    """
    from transformers import AutoModelForCausalLM

    from smoe_cli.data.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(str(folder))
    try:
        pair: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype="float32", trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: transformers cannot load this as a causal language model: {first}") from error
    model, info = pair
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{folder}: lacks the tensor `{missing[0]}`" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    return model.to(_device()).eval(), tokenizer


def run_directory(path: Path) -> Path | None:
    """The run directory that `path` is or whose model it is, if any."""
    for folder in (path, path.resolve().parent):
        if (folder / "recipe.resolved.yaml").is_file():
            return folder
    return None


def open_model(folder: Path) -> tuple[SymbioticModel, PreTrainedTokenizerFast]:
    """Load a model folder onto the accelerator, if there is one, in evaluation mode."""
    from smoe_cli.model.io import load_model

    model, tokenizer, _, _ = load_model(folder)
    return model.to(_device()).eval(), tokenizer


def _device() -> torch.device:
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device or torch.device("cpu")

"""Files that a checkpoint has besides its weights, and that every conversion of it carries along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from smoe_cli.families import open_checkpoint
from smoe_cli.families.checkpoint import INDEX, SINGLE
from smoe_cli.recipe.models import Recipe

SOURCE = "source"
"""Folder within a model folder: the checkpoint's own small files as they were, for the way back."""

PROCESSING = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that say how a model is fed. A symbiotic model has them too; its config and tokenizer are its own."""

_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".md", ".tiktoken")
_NAMES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")
_LARGEST = 100_000_000


def small_files(folder: Path) -> list[Path]:
    """Config, tokenizer, processors, licence: what stands beside the weights of a checkpoint. No code."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.stat().st_size <= _LARGEST
        and not path.name.startswith(".")
        and (path.suffix in _SUFFIXES or path.stem in _NAMES)
    )


def checkpoint_folder(recipe: Recipe) -> Path | None:
    """The folder of the checkpoint that a recipe starts from, if there is one and it is here: local, or in the hub's cache."""
    location = recipe.model.backbone.checkpoint
    if location is None:
        return None
    folder = Path(location.path).expanduser()
    if folder.is_dir():
        return folder if (folder / "config.json").is_file() else None
    try:
        cached = try_to_load_from_cache(location.path, "config.json", revision=location.revision)
    except HFValidationError:  # neither a folder nor a hub id
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def copy_processing(origin: Path, work: Path) -> None:
    """Copy the files that say how a model is fed, unless they are there."""
    for name in PROCESSING:
        if (origin / name).is_file() and not (work / name).exists():
            shutil.copyfile(origin / name, work / name)


def carry(origin: Path, work: Path) -> None:
    """Copy into the model folder `work` what comes from `origin`, a checkpoint or another model folder of ours."""
    copy_processing(origin, work)
    ours = (origin / "smoe.yaml").is_file()
    if ours and not (origin / SOURCE).is_dir():  # made from scratch, or saved where its checkpoint was not
        return
    (work / SOURCE).mkdir()
    for path in small_files(origin / SOURCE if ours else origin):
        shutil.copyfile(path, work / SOURCE / path.name)
    if not (work / SOURCE / INDEX).exists():  # one file: the names in it are written down too
        names = sorted(open_checkpoint(str(origin)).entries)
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, SINGLE)}
        (work / SOURCE / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def source_index(folder: Path) -> Path | None:
    """Which file of the checkpoint held which tensor."""
    index = folder / SOURCE / INDEX
    return index if index.is_file() else None

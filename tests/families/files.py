"""Checkpoints that are not as they should be: files of another one, changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray]
Config = dict[str, Any]
INDEX = "model.safetensors.index.json"


def read(folder: Path) -> tuple[Tensors, Config]:
    """Tensors of all files, and the config."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors, json.loads((folder / "config.json").read_text())


def write(folder: Path, tensors: Tensors, config: Config, shards: int = 1) -> Path:
    """A checkpoint in `shards` files; with more than one there is an index."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    if shards == 1:
        save_file(contiguous, folder / "model.safetensors")
        return folder
    files = {f"model-{i + 1:05d}-of-{shards:05d}.safetensors": sorted(tensors)[i::shards] for i in range(shards)}
    for file, names in files.items():
        save_file({name: contiguous[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in files.items() for name in names}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def changed(source: Path, folder: Path, change: Callable[[Tensors, Config], None], shards: int = 1) -> Path:
    """A copy of a checkpoint whose tensors and config `change` edits in place."""
    tensors, config = read(source)
    change(tensors, config)
    return write(folder, tensors, config, shards)

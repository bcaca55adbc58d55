"""A checkpoint in Hugging Face layout: its config and the headers of its safetensors files. No weight is read.

Everything that can be wrong with the files themselves is found here: a shard that the index names and that is missing, a
truncated file, a tensor that is listed and absent, or present and not listed.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.families.header import Entry, read_header
from smoe_cli.families.locate import locate

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
FLOATS = ("F32", "F16", "BF16")
"""Types of weights that can be read."""
BUFFERS = ("I64",)
"""Types of tensors that are no weights (`position_ids` of older vision encoders). F64 and quantised types are refused."""
INCOMPLETE = "the checkpoint is incomplete; copy it again"
OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack")
SAMPLE = 256
"""Bytes of a tensor's beginning, and of its middle, that `Checkpoint.sample` looks at."""
CHUNK = 1 << 24
"""Bytes of each of two tensors in memory while they are compared."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json and safetensors files. sha256: of the config and of the tensors' names and shapes, whatever
    files they lie in; not of the weights."""

    folder: Path
    config: dict[str, Any] = field(repr=False)
    entries: dict[str, Entry] = field(repr=False)
    sha256: str

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the safetensors files, in order."""
        return tuple(sorted({entry.file for entry in self.entries.values()}))

    def sample(self) -> str:
        """SHA-256 of some bytes of every tensor, whatever files they lie in: tells weights apart without reading them all."""
        digest = hashlib.sha256()
        with ExitStack() as stack:
            files = {file: stack.enter_context((self.folder / file).open("rb")) for file in self.files}
            for name, entry in sorted(self.entries.items()):
                digest.update(f"{name}\0".encode())
                for place in (entry.start, (entry.start + entry.stop) // 2):
                    files[entry.file].seek(place)
                    digest.update(files[entry.file].read(min(SAMPLE, entry.stop - place)))
        return digest.hexdigest()


def open_checkpoint(path: str, revision: str | None = None) -> Checkpoint:
    """Open a folder, or a model of the hub by its id (downloaded into the hub's cache unless it is there).

    Raises UserError naming the file and what is wrong with it.
    """
    folder = locate(path, revision)
    config = _config(folder / "config.json")
    entries: dict[str, Entry] = {}
    for file, listed in _files(folder).items():
        found = read_header(folder / file)
        if listed is not None:
            if lost := sorted(listed - set(found)):
                raise UserError(f"{folder / file}: lacks {_some(lost)}, which {INDEX} says it holds", INCOMPLETE)
            if more := sorted(set(found) - listed):
                raise UserError(
                    f"{folder / file}: holds {_some(more)}, which {INDEX} does not list there",
                    "the files and the index are not of one checkpoint; copy all of them again",
                )
        entries |= found
    for name, entry in entries.items():
        if entry.dtype not in (*FLOATS, *BUFFERS):
            raise UserError(
                f"{folder / entry.file}: `{name}` has type {entry.dtype}", f"weights are read in {', '.join(FLOATS)}"
            )
    own = {key: value for key, value in config.items() if key != "transformers_version"}
    shapes = {name: entry.shape for name, entry in entries.items()}
    digest = hashlib.sha256(json.dumps([own, shapes], sort_keys=True).encode())
    return Checkpoint(folder, config, entries, digest.hexdigest())


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path, "a checkpoint in Hugging Face layout has one")
    for key in ("text_config", "vision_config", "quantization_config"):
        if not isinstance(config.get(key) or {}, dict):
            raise UserError(f"{path}: `{key}` should be an object, found {config[key]!r}")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method", "method unknown")
        raise UserError(f"{path}: the checkpoint is quantised ({method})", f"use one in {', '.join(FLOATS)}")
    return config


def _files(folder: Path) -> dict[str, set[str] | None]:
    """{file: names that the index says it holds, or None without an index}, in order of the files' names."""
    if not (folder / INDEX).is_file():
        if (folder / SINGLE).is_file():
            return {SINGLE: None}
        other = sorted(file.name for pattern in OTHER_FORMATS for file in folder.glob(pattern))
        raise UserError(
            f"{folder}: no weights in safetensors files",
            f"it has {other[0]}; load it with transformers and write it again with save_pretrained"
            if other
            else f"it should hold {SINGLE} or {INDEX}",
        )
    if (folder / SINGLE).is_file():
        raise UserError(f"{folder}: holds both {SINGLE} and {INDEX}", "remove the one that is left over")
    weights = read_json(folder / INDEX, "copy it again").get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(f, str) and Path(f).name == f for f in weights.values()):
        raise UserError(f"{folder / INDEX}: has no `weight_map` of tensor names to file names", "copy the file again")
    listed: dict[str, set[str]] = {file: set() for file in sorted(set(weights.values()))}
    for name, file in weights.items():
        listed[file].add(name)
    for file in listed:
        if not (folder / file).is_file():
            raise UserError(f"{folder / file}: missing, although {INDEX} names it", INCOMPLETE)
    return {**listed}


def read_json(path: Path, help: str) -> dict[str, Any]:
    """An object from a JSON file. Raises UserError; help: what to do when there is no such file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", help) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})", "copy the file again") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object", "copy the file again")
    return data


def same_bytes(checkpoint: Checkpoint, one: str, other: str) -> bool:
    """Whether two tensors are equal in type, shape and every byte."""
    a, b = checkpoint.entries[one], checkpoint.entries[other]
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    with (checkpoint.folder / a.file).open("rb") as first, (checkpoint.folder / b.file).open("rb") as second:
        first.seek(a.start)
        second.seek(b.start)
        for done in range(0, a.stop - a.start, CHUNK):
            size = min(CHUNK, a.stop - a.start - done)
            if first.read(size) != second.read(size):
                return False
    return True


def _some(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""Writing safetensors files one tensor at a time: what is in them is known before, so that nothing but one tensor is in memory.

The bytes are those that `safetensors.torch.save_file` writes for the same tensors and metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from smoe_cli.families.checkpoint import INDEX, SINGLE

MAX_SHARD = 5_000_000_000
"""Bytes of a shard, by default."""

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Types of tensors by their name in a safetensors header."""
CODES = {dtype: code for code, dtype in DTYPES.items()}


def joint(types: Iterable[str]) -> str:
    """The type that holds values of all these types: theirs, or float32 where they differ."""
    found = set(types)
    return found.pop() if len(found) == 1 else "F32"


class Typed(Protocol):
    """A tensor in a file, to be written or found."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


def common(entries: Iterable[Typed]) -> str:
    """The type of most of the values."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.dtype] = counts.get(entry.dtype, 0) + math.prod(entry.shape)
    return max(counts, key=lambda dtype: counts[dtype])


@dataclass(frozen=True)
class Entry:
    """A tensor to be written. dtype: as in a safetensors header (`BF16`)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of its data."""
        return self.numel * DTYPES[self.dtype].itemsize


def split(entries: Iterable[Entry], max_bytes: int = MAX_SHARD) -> dict[str, list[Entry]]:
    """{file: its tensors}, in order, each file as full as `max_bytes` allows; a larger tensor gets a file of its own."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if shards[-1] and size + entry.nbytes > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.nbytes
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors": shard for i, shard in enumerate(shards)}


def index_text(files: Mapping[str, Iterable[Entry]]) -> str:
    """`model.safetensors.index.json` as transformers writes it."""
    entries = [(entry, file) for file, shard in files.items() for entry in shard]
    total = sum(entry.nbytes for entry, _ in entries)
    parameters = sum(entry.numel for entry, _ in entries)
    index = {
        "metadata": {"total_parameters": parameters, "total_size": total},
        "weight_map": {entry.name: file for entry, file in entries},
    }
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


class ShardWriter:
    """Writes the tensors of several files, in any order and a few rows at a time.

    A file gets its full size at once: a disk that is too small is found out before hours of work. digests: {name: SHA-256 of
    the bytes that were written}.
    """

    def __init__(self, folder: Path, files: Mapping[str, list[Entry]]):
        self._folder, self._files = folder, files
        self._places: dict[str, tuple[Path, int, Entry]] = {}
        self._hashes: dict[str, Any] = {}
        self._done: dict[str, int] = {}
        for file, entries in files.items():
            header, offsets = _header(entries)
            path = folder / file
            with path.open("wb") as out:
                out.write(header)
                _reserve(out, len(header) + sum(entry.nbytes for entry in entries))
            for entry in entries:
                if entry.name in self._places:
                    raise ValueError(f"`{entry.name}` is in two files")
                self._places[entry.name] = (path, len(header) + offsets[entry.name], entry)
                self._hashes[entry.name] = hashlib.sha256()
                self._done[entry.name] = 0

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each tensor's bytes."""
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}

    def write(self, name: str, part: Tensor) -> int:
        """The tensor `name`, or its next rows, converted to its type. Returns bytes. Raises OSError when the disk is full."""
        path, offset, entry = self._places[name]
        data = part.detach().to(device="cpu", dtype=DTYPES[entry.dtype]).contiguous().reshape(-1).view(torch.uint8)
        raw, done = data.numpy().data, self._done[name]
        if tuple(part.shape[1:]) != entry.shape[1:] or done + len(raw) > entry.nbytes:
            raise ValueError(f"`{name}` has shape {entry.shape}; {tuple(part.shape)} does not fit after {done} bytes")
        with path.open("r+b") as file:
            file.seek(offset + done)
            file.write(raw)
        self._hashes[name].update(raw)
        self._done[name] += len(raw)
        return len(raw)

    def close(self) -> None:
        """All files are complete. Raises ValueError when a tensor was not written to its end."""
        if short := [name for name, (_, _, entry) in self._places.items() if self._done[name] != entry.nbytes]:
            raise ValueError(f"not written to the end: {short[:5]}")
        if [*self._files] != [SINGLE]:
            (self._folder / INDEX).write_text(index_text(self._files), encoding="utf-8")


def _reserve(file: BinaryIO, size: int) -> None:
    """Give a file its full size on the disk, where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


_RANK = {"F32": 0, "BF16": 1, "F16": 2}
"""safetensors lays tensors out by alignment first, then by name."""


def _header(entries: Iterable[Entry]) -> tuple[bytes, dict[str, int]]:
    """The bytes before the data, and {name: offset into the data}."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for entry in sorted(entries, key=lambda entry: (_RANK[entry.dtype], entry.name)):
        offsets[entry.name] = end
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [end, end + entry.nbytes],
        }
        end += entry.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets

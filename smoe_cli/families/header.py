"""The header of a safetensors file: names, types, shapes and places of its tensors. No weight is read.

Format: 8 bytes, little-endian, the length n of the header; n bytes of JSON, {name: {dtype, shape, data_offsets}}, offsets
counted from the end of the header; the tensors, without gaps, to the end of the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.errors import UserError

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Sizes of the types whose tensors are checked byte by byte; newer ones (F8_E4M3, …) only for their place in the file."""
LONGEST = 100_000_000
"""Bytes of a header that safetensors itself accepts."""
DAMAGED = "the file is damaged or was not copied to its end; copy it again"


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file: its type as safetensors writes it (`BF16`), its shape, the file's name, and its bytes there."""

    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    """First byte, counted from the beginning of the file."""
    stop: int


def read_header(path: Path) -> dict[str, Entry]:
    """The entries of a safetensors file. Raises UserError unless they describe exactly its bytes."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST):
                raise UserError(f"{path}: not a safetensors file, or cut off ({size:,} bytes)", DAMAGED)
            raw = file.read(length)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        entries = _entries(json.loads(raw), path.name, 8 + length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its header cannot be read ({type(error).__name__}: {error})", DAMAGED) from error
    end = max((entry.stop for entry in entries.values()), default=8 + length)
    if end != size:
        raise UserError(f"{path}: has {size:,} bytes, its header describes {end:,}", DAMAGED)
    return entries


def _entries(header: dict[str, dict], file: str, base: int) -> dict[str, Entry]:
    entries = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not isinstance(dtype, str) or not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
            raise ValueError(f"`{name}` has type {dtype}, shape {shape}, bytes {start} to {stop}")
        if dtype in BYTES and stop - start != math.prod(shape) * BYTES[dtype]:
            raise ValueError(f"`{name}` has {stop - start} bytes for shape {list(shape)}")
        entries[name] = Entry(dtype, shape, file, base + start, base + stop)
    place = base
    for name, found in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if found.start != place:
            raise ValueError(f"`{name}` begins at byte {found.start}, the tensor before it ends at {place}")
        place = found.stop
    return entries

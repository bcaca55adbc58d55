"""What the three conversions have in common: how they are asked for, where they write, and what they say they did."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from smoe_cli.convert.verify import Check
from smoe_cli.errors import UserError
from smoe_cli.eval.targets import check_folder, writing
from smoe_cli.model.folder import atomic_folder

DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
"""Types that can be asked for, as safetensors headers write them. `keep` leaves every tensor its own."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Options:
    """dtype: None keeps every tensor's own. max_shard: bytes; None: the layout of the source, or else 5 GB. verify: None
    compares logits if the model fits into memory. progress: show a bar if there is a terminal."""

    dtype: str | None = None
    max_shard: int | None = None
    verify: Literal["logits", "tensors"] | None = None
    progress: bool = False


@dataclass(frozen=True)
class Report:
    """What a conversion did. parameters, nbytes: of the weights that were written. left_out: {part: parameters}.

    notes: sentences for the user, one a line. check: how the written folder was verified.
    """

    target: str
    family: str
    parameters: int
    nbytes: int
    files: int
    check: Check
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def size(text: str) -> int:
    """`5GB` → 5,000,000,000. Raises UserError on anything but a number with KB, MB, GB, KiB, MiB or GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)?", text.strip().upper())
    value = float(match[1]) * _UNITS[match[2] or ""] if match else 0
    if value < 1:
        raise UserError(f"`{text}` is not a size", "write a number and a unit, such as 5GB or 500MB")
    return int(value)


def words(nbytes: int) -> str:
    """`8.99 GB`, `40.1 MB`."""
    return f"{nbytes / 1e9:.3g} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.3g} MB"


def check_new(out: Path) -> None:
    """Raise UserError unless `out` is free, or an empty folder, in a place that can be written."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty", "choose a new folder")
    check_folder(out.absolute().parent, out)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when the block ends well, and leaves nothing behind when it does not."""
    check_new(out)
    with writing(out), ExitStack() as stack:
        try:
            work = stack.enter_context(atomic_folder(out))
        except OSError as error:
            raise UserError(f"{out}: cannot be written: {error.strerror or error}", "choose another place") from None
        yield work

"""Reading the tensors of a folder a few rows at a time, and putting plain tensors together from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from smoe_cli.convert.assembly import Plain
from smoe_cli.families import Checkpoint, Slot
from smoe_cli.model.shards import DTYPES, common, joint


class Reader:
    """The tensors of a checkpoint's files. Files are mapped, not read: memory holds what is asked for."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self._files: dict[str, Any] = {}

    def _slice(self, name: str) -> Any:
        file = self.checkpoint.entries[name].file
        if file not in self._files:
            self._files[file] = safe_open(self.checkpoint.folder / file, framework="pt")
        return self._files[file].get_slice(name)

    def whole(self, name: str) -> Tensor:
        """All of it."""
        return self._slice(name)[...]

    def row(self, name: str, index: int, axis: int = 0) -> Tensor:
        """One index of the first or the last dimension, which is kept with size 1."""
        found = self._slice(name)
        return found[index : index + 1] if axis == 0 else found[..., index : index + 1]

    def dtype(self, plain: Plain) -> str:
        """Type of a plain tensor, as in a safetensors header; float32 where its parts differ. Zeros get that of most."""
        entries = self.checkpoint.entries
        return joint(entries[name].dtype for name in plain.sources) if plain.sources else common(entries.values())

    def assemble(self, plain: Plain) -> Tensor:
        """The value of a plain tensor, whole."""
        if plain.whole is not None:
            return self.whole(plain.whole)
        if plain.rows is None:
            return torch.zeros(plain.shape)
        rows = [self._row(plain, index) for index in range(len(plain.rows))]
        return torch.cat(rows, dim=plain.axis)

    def on_disk(self, slot: Slot, plain: Plain) -> Tensor:
        """What belongs into the files for a slot; of stacked experts only the slot's own is read."""
        if slot.expert is None:
            return slot.to_disk(self.assemble(plain))
        if plain.rows is None:
            return slot.to_disk(self.assemble(plain))
        return replace(slot, expert=0).to_disk(self._row(plain, slot.expert))

    def _row(self, plain: Plain, index: int) -> Tensor:
        assert plain.rows is not None
        row = plain.rows[index]
        if row is None:
            shape = (*plain.shape[: plain.axis], 1, *plain.shape[plain.axis + 1 :])
            return torch.zeros(shape, dtype=DTYPES[self.dtype(plain)])
        return self.row(*row, axis=plain.axis)

"""Reading the tensors of a folder a few rows at a time, and putting plain tensors together from them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from smoe_cli.convert.assembly import Plain
from smoe_cli.families import Slot
from smoe_cli.model.shards import DTYPES, common, joint
from smoe_cli.model.weights import Files


class Reader(Files):
    """The tensors of a model folder's files. A context manager."""

    def dtype(self, plain: Plain) -> str:
        """Type of a plain tensor, as in a safetensors header; float32 where its parts differ. Zeros get that of most."""
        entries = self.checkpoint.entries
        return joint(entries[name].dtype for name in plain.sources) if plain.sources else common(entries.values())

    def assemble(self, plain: Plain) -> Tensor:
        """The value of a plain tensor, whole."""
        if plain.whole is not None:
            return self.read(plain.whole)
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
        name, place = row
        one = slice(place, place + 1)
        return self.read(name, one if plain.axis == 0 else (..., one))

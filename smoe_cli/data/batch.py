"""Documents side by side in a row, rows in a batch.

Shapes: B rows of S tokens, Nv images to understand and Nd images to draw over all rows, in order of appearance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smoe_cli.data.documents import NO_TARGET, POSITIONS, Column, Document, DocumentBuilder, Drawing

Batch = dict[str, Tensor]
"""input_ids, targets, modality, document, image, source: (B, S) int64.  position_ids (B, S, 3) int64: temporal, vertical and
horizontal.  vit_pixels (Nv, 3, H, W), vae_pixels (Nd, 3, H, W), timestep (Nd,), noise (Nd, vae tokens, latent values): float32.
vae_source (Nd,) int64."""

_DOCUMENT, _SOURCE, _WIDTH = len(Column), len(Column) + 1, len(Column) + 2
_KEYS = {
    "input_ids": Column.IDS,
    "targets": Column.TARGETS,
    "modality": Column.MODALITY,
    "image": Column.IMAGE,
    "document": _DOCUMENT,
    "source": _SOURCE,
}


@dataclass
class Row:
    """A packed row as numpy arrays, cheap to send between processes."""

    columns: np.ndarray
    """(9, S) int64: a document's columns, the document's number in the row, its source."""
    seen: list[np.ndarray]
    drawn: list[Drawing]
    drawn_source: list[int]


class RowBuilder:
    """Fills one row of `length` tokens, from the left."""

    def __init__(self, length: int, pad: int):
        self._columns = np.zeros((_WIDTH, length), np.int64)
        self._columns[Column.IDS] = pad
        self._columns[Column.TARGETS] = NO_TARGET
        self._columns[[Column.IMAGE, _DOCUMENT, _SOURCE]] = -1
        self._row = Row(self._columns, [], [], [])
        self._used = self._documents = 0

    @property
    def room(self) -> int:
        """Free tokens."""
        return self._columns.shape[1] - self._used

    @property
    def empty(self) -> bool:
        """Whether nothing has been added."""
        return self._used == 0

    def add(self, document: Document, source: int) -> None:
        """Append a document, which must fit."""
        n = len(document)
        assert n <= self.room
        part = self._columns[:, self._used : self._used + n]
        part[: len(Column)] = document.columns
        part[_DOCUMENT] = self._documents
        part[_SOURCE] = source
        part[Column.IMAGE][part[Column.IMAGE] >= 0] += len(self._row.seen) + len(self._row.drawn)
        self._row.seen += document.seen
        self._row.drawn += document.drawn
        self._row.drawn_source += [source] * len(document.drawn)
        self._used += n
        self._documents += 1

    def row(self) -> Row:
        """The row, padded."""
        return self._row


def collate(rows: Sequence[Row], builder: DocumentBuilder) -> Batch:
    """Rows of one length as a batch."""
    columns = torch.from_numpy(np.stack([row.columns for row in rows], axis=1))
    seen = [image for row in rows for image in row.seen]
    drawn = [drawing for row in rows for drawing in row.drawn]
    return {
        **{key: columns[i] for key, i in _KEYS.items()},
        "position_ids": columns[POSITIONS].permute(1, 2, 0).contiguous(),
        "vit_pixels": _stacked(seen, (3, *builder.vit_size)),
        "vae_pixels": _stacked([drawing.pixels for drawing in drawn], (3, *builder.vae_size)),
        "timestep": torch.tensor([drawing.timestep for drawing in drawn], dtype=torch.float32),
        "noise": _stacked([drawing.noise for drawing in drawn], (builder.vae_tokens, builder.latent_dim)),
        "vae_source": torch.tensor([source for row in rows for source in row.drawn_source], dtype=torch.int64),
    }


def _stacked(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    """(n, *shape) float32, also for n = 0."""
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros((0, *shape))

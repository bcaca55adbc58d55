"""A lane fills the same row of every batch: an endless stream of packed rows, addressed by (seed, phase, lane, draw).

A lane draws samples from the mixture and packs them. What does not fit a row is carried to the next: the rest of a text that
was cut, or an image sample whole. Its state is a few numbers, from which it continues exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smoe_cli.data.batch import Row, RowBuilder
from smoe_cli.data.documents import Document, DocumentBuilder, shifted_timestep
from smoe_cli.data.keys import generator
from smoe_cli.data.sample import Address, BadRow
from smoe_cli.data.sources import Source
from smoe_cli.errors import UserError

SMALLEST_PIECE = 16
"""A text is not cut for fewer free tokens than this; they stay padding."""

MOST_BROKEN = 1000
"""So many broken rows in a row stop the run, whatever `on_bad_row` says: nothing good is likely to come."""


@dataclass(frozen=True)
class Stream:
    """What all lanes of a phase share."""

    seed: int
    phase: int
    lanes: int
    sequence_length: int
    shift: float
    sources: Sequence[Source]
    """In the order of the mixture."""
    source_ids: Sequence[int]
    """Their indices in the recipe's `data.sources`."""
    weights: Sequence[float]
    builder: DocumentBuilder


@dataclass(frozen=True)
class _Carried:
    """What a lane has drawn and not yet packed."""

    draw: int
    address: Address
    offset: int
    """Tokens of the document that earlier rows hold."""
    source: int
    document: Document


class Lane:
    """The stream of rows of one lane; `state()` after a row, given to a new lane, continues with the next row."""

    def __init__(self, stream: Stream, index: int, state: dict[str, Any] | None = None):
        self._stream, self._index = stream, index
        self._bounds = np.cumsum(stream.weights) / np.sum(stream.weights)
        self._draws: int = state["draws"] if state else 0
        self._report: dict[str, dict[str, Any]] = {
            source.name: {"drawn": 0, "skipped": 0, "reasons": {}} for source in stream.sources
        }
        self._carried: _Carried | None = None
        self.notices: list[tuple[str, str, str]] = []
        """(source, reason, message) of rows skipped since the last row; emptied by the caller."""
        if state:
            for name, counts in state["report"].items():
                self._report[name] = {**counts, "reasons": dict(counts["reasons"])}
            if state["carried"]:
                self._carried = self._restore(**state["carried"])

    def state(self) -> dict[str, Any]:
        """JSON-able position after the last row."""
        held = self._carried
        return {
            "draws": self._draws,
            "carried": {"draw": held.draw, "address": held.address, "offset": held.offset} if held else None,
            "report": {name: {**counts, "reasons": dict(counts["reasons"])} for name, counts in self._report.items()},
        }

    def next_row(self) -> Row:
        """The next packed row. Raises UserError for a broken row where `on_bad_row` is `error`."""
        stream = self._stream
        row = RowBuilder(stream.sequence_length, stream.builder.special.pad)
        while row.room:
            held = self._carried or self._draw()
            self._carried = None
            document, source_id = held.document, stream.source_ids[held.source]
            if len(document) <= row.room:
                row.add(document, source_id)
                continue
            if not document.has_image and (row.room >= SMALLEST_PIECE or row.empty):
                cut = row.room
                head, tail = document.cut(cut)
                row.add(head, source_id)
                held = _Carried(held.draw, held.address, held.offset + cut, held.source, tail)
            self._carried = held
            break
        return row.row()

    def _draw(self) -> _Carried:
        """The next sample of the mixture; broken rows are passed over within the same source."""
        draw = self._draws
        self._draws += 1
        stream = self._stream
        choice, rng = self._choose(draw)
        source, counts = stream.sources[choice], self._report[stream.sources[choice].name]
        for _ in range(MOST_BROKEN):
            address = source.next_address(counts["drawn"] + counts["skipped"], self._index, stream.lanes, rng)
            try:
                document = self._document(draw, source, address)
            except BadRow as error:
                message = f'source "{source.name}": {source.place(address)}: {error.detail}'
                if source.spec.on_bad_row == "error":
                    remedy = "mend the row, or set `on_bad_row: skip` to pass over rows like it"
                    raise UserError(message, help=remedy) from None
                counts["skipped"] += 1
                counts["reasons"][error.reason] = counts["reasons"].get(error.reason, 0) + 1
                self.notices.append((source.name, error.reason, message))
                continue
            counts["drawn"] += 1
            return _Carried(draw, address, 0, choice, document)
        raise UserError(f"{MOST_BROKEN} rows in a row are broken; the last: {message}")

    def _choose(self, draw: int) -> tuple[int, np.random.Generator]:
        """(index into the mixture, generator for the addresses) of a draw."""
        rng = generator("draw", self._stream.seed, self._stream.phase, self._index, draw)
        return int(np.searchsorted(self._bounds[:-1], rng.random(), side="right")), rng

    def _restore(self, draw: int, address: Address, offset: int) -> _Carried:
        """What was carried when a state was taken."""
        choice, _ = self._choose(draw)
        source = self._stream.sources[choice]
        try:
            document = self._document(draw, source, address)
            if offset >= len(document):
                raise BadRow("shorter", f"it has {len(document)} tokens, of which {offset} had been used")
        except BadRow as error:
            raise UserError(
                f'source "{source.name}": {source.place(address)} could be read before this run stopped, and cannot now: '
                f"{error.detail}",
                help="restore the data as it was, or start a new run",
            ) from None
        return _Carried(draw, address, offset, choice, document.cut(offset)[1] if offset else document)

    def _document(self, draw: int, source: Source, address: Address) -> Document:
        """The document of a sample. Raises BadRow, also when an image sample is longer than a row."""
        stream, builder = self._stream, self._stream.builder
        sample = source.fetch(address)
        if sample.task == "lm":
            return builder.lm(sample.text)
        assert sample.image is not None
        if sample.task == "mmu":
            document = builder.mmu(sample.image, sample.question, sample.text)
        else:
            rng = generator("flow", stream.seed, stream.phase, self._index, draw)
            dropped = rng.random() < source.spec.caption_dropout
            timestep = shifted_timestep(rng.standard_normal(), stream.shift)
            noise = rng.standard_normal((builder.vae_tokens, builder.latent_dim), np.float32)
            document = builder.t2i(sample.image, None if dropped else sample.text, timestep, noise)
        if len(document) > stream.sequence_length:
            detail = f"a sample of {len(document)} tokens does not fit a row of {stream.sequence_length}"
            raise BadRow("longer than a row", detail)
        return document

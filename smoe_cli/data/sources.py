"""Data sources behind one interface: a lane asks for an address, then fetches the sample that lies there.

An address is JSON-able and gives the same sample in any process and after any restart, which is what makes packing resumable
without saving samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from smoe_cli.data import hub, prose
from smoe_cli.data.files import IMAGES, find_files, is_local
from smoe_cli.data.keys import shuffled
from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.data.rows import to_sample
from smoe_cli.data.sample import Address, Sample
from smoe_cli.data.tables import Csv, ImageFiles, JsonLines, Part, Row, Table, open_json
from smoe_cli.errors import Failure, SmoeError, UserError
from smoe_cli.recipe.models import Dataset, PythonDocs, RenderedText, SourceBase

_DRAWINGS = 2**62


class Source(ABC):
    """Where samples come from."""

    name: str
    spec: SourceBase
    streamed: bool = False
    """Whether rows come in the order of one process's requests; then `position` has to be saved."""
    position: Any = None
    """JSON-able; assign a saved one, or None for the start. None for sources that are not streamed."""

    @abstractmethod
    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        """Where the next sample of a lane lies, `taken` counting how many this lane has asked for before."""

    @abstractmethod
    def fetch(self, address: Address) -> Sample:
        """The sample at an address. Raises BadRow."""

    @abstractmethod
    def place(self, address: Address) -> str:
        """What an address means to the user: the row and the file."""


class Drawings(Source):
    """A `rendered-text` source: endless, a random drawing each time."""

    def __init__(self, name: str, spec: RenderedText, seed: int):
        self.name, self.spec = name, spec
        self._rendered = RenderedTextSource(spec, seed)

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        return int(rng.integers(_DRAWINGS))

    def place(self, address: Address) -> str:
        return f"drawing {address}"

    def fetch(self, address: Address) -> Sample:
        drawing = self._rendered.sample(address)
        if self.spec.task == "mmu":
            return Sample("mmu", text=drawing.text, question=self.spec.question or "", image=drawing.image)
        return Sample("t2i", text=drawing.caption_long if self.spec.captions == "long" else drawing.text, image=drawing.image)


class Shuffled(Source):
    """A finite source: a fresh permutation each epoch, of which every lane takes its own positions, so that in an epoch each
    row is seen once over all lanes."""

    def __init__(self, name: str, spec: Dataset | PythonDocs, table: Table, seed: int, phase: int):
        self.name, self.spec, self._table = name, spec, table
        self._key = ("rows", seed, phase, name)

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        return taken * lanes + lane

    def fetch(self, address: Address) -> Sample:
        return _sample(self.spec, self._table, self._index(address))

    def place(self, address: Address) -> str:
        return _place(self._table, self._index(address))

    def _index(self, address: int) -> int:
        epoch, position = divmod(address, len(self._table))
        return shuffled(position, len(self._table), *self._key, epoch)


class InOrder(Source):
    """Local files read in their own order; of each `world` rows a process takes one."""

    streamed = True

    def __init__(self, name: str, spec: Dataset, table: Table, rank: int, world: int):
        self.name, self.spec, self._table = name, spec, table
        self._rank, self._world = rank, world

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        read = self.position or 0
        self.position = read + 1
        return read * self._world + self._rank

    def fetch(self, address: Address) -> Sample:
        return _sample(self.spec, self._table, address % len(self._table))

    def place(self, address: Address) -> str:
        return _place(self._table, address % len(self._table))


class Streamed(Source):
    """A hub dataset read while training, in its own order."""

    streamed = True

    def __init__(self, name: str, spec: Dataset, stream: hub.HubStream):
        self.name, self.spec, self._stream = name, spec, stream
        self._last: tuple[Address, Row] | None = None

    @property
    def position(self) -> Any:  # type: ignore[override]
        return self._stream.position

    @position.setter
    def position(self, position: Any) -> None:
        self._stream.position = position

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        self._last = self._guarded(self._stream.pull)
        return self._last[0]

    def fetch(self, address: Address) -> Sample:
        if self._last is not None and self._last[0] == address:
            row = self._last[1]
        else:
            row = self._guarded(self._stream.reread, address)
        return to_sample(self.spec, row, None)

    def place(self, address: Address) -> str:
        return f"row {address['row'] + 1} of this process's share of {self._stream.label}"

    def _guarded(self, read: Any, *args: Any) -> Any:
        try:
            return read(*args)
        except SmoeError:
            raise
        except Exception as error:
            raise Failure(f'source "{self.name}": reading {self._stream.label} failed: {error}') from error


def open_source(name: str, spec: SourceBase, seed: int, phase: int, rank: int = 0, world: int = 1) -> Source:
    """Open a source of a recipe. Raises UserError naming the source when a file, split or column does not exist."""
    try:
        if isinstance(spec, RenderedText):
            return Drawings(name, spec, seed)
        if isinstance(spec, PythonDocs):
            return Shuffled(name, spec, Table([_Passages()]), seed, phase)
        assert isinstance(spec, Dataset)
        if not is_local(spec.path):
            found = hub.load_hub(spec.path, spec.config, spec.split, spec.streaming)
            if spec.streaming:
                return Streamed(name, spec, hub.HubStream(found, spec.path, rank, world))
            table = Table([hub.DatasetPart(found, spec.path, None)])
        else:
            table = _local_table(spec)
        if not len(table):
            raise UserError(f'split "{spec.split}" of "{spec.path}" has no rows')
        return InOrder(name, spec, table, rank, world) if spec.streaming else Shuffled(name, spec, table, seed, phase)
    except SmoeError as error:
        error.message = f'source "{name}": {error.message}'
        raise


def _local_table(spec: Dataset) -> Table:
    root = Path(spec.path).expanduser()
    if spec.config is not None:
        raise UserError("`config` names a configuration of a hub dataset; local files have none", help="remove `config`")
    if root.is_dir() and hub.saved_to_disk(root):
        return Table([hub.open_saved(root, spec.split)])
    files = find_files(spec.path, spec.split)
    images = [file for file in files if file.suffix.lower() in IMAGES]
    if images:
        return Table([ImageFiles(root, images)])
    parquet = [file for file in files if file.suffix.lower() == ".parquet"]
    opened: dict[Path, Part] = {}
    if parquet and not spec.streaming:
        opened |= dict(zip(parquet, hub.open_parquet(parquet), strict=True))
    openers = {".jsonl": JsonLines, ".csv": Csv, ".json": open_json, ".parquet": hub.ParquetPart}
    return Table([opened[file] if file in opened else openers[file.suffix.lower()](file) for file in files])


class _Passages(Part):
    """`python-docs` as a part of a table."""

    label = "pydoc_data.topics"

    def __len__(self) -> int:
        return len(prose.passages())

    def row(self, index: int) -> Row:
        return {"text": prose.passages()[index]}


def _sample(spec: Dataset | PythonDocs, table: Table, index: int) -> Sample:
    part, row_index = table.locate(index)
    row = part.row(row_index)
    return Sample("lm", text=row["text"]) if isinstance(spec, PythonDocs) else to_sample(spec, row, part.folder)


def _place(table: Table, index: int) -> str:
    part, row_index = table.locate(index)
    return f"row {row_index + 1} of {part.label}"

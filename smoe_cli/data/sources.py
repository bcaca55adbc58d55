"""Data sources behind one interface: a lane asks for an address, then fetches the sample that lies there.

An address is JSON-able and gives the same sample in any process and after any restart, which is what makes packing resumable
without saving samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from smoe_cli.data import hub, prose
from smoe_cli.data.emoji import EmojiSource
from smoe_cli.data.files import IMAGES, find_files, is_local
from smoe_cli.data.keys import shuffled
from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.data.rows import to_sample
from smoe_cli.data.sample import Address, Sample
from smoe_cli.data.tables import Csv, ImageFiles, JsonLines, Part, Row, Table, open_json
from smoe_cli.errors import Failure, SmoeError, UserError
from smoe_cli.recipe.models import Dataset, Emoji, PythonDocs, RenderedText, SourceBase

Read = Callable[[Row, Path | None], Sample]
"""From a row, and the folder that its relative paths start at, to a sample. Raises BadRow."""

_DRAWINGS = 2**62


class Source(ABC):
    """Where samples come from."""

    streamed = False
    """Whether rows come in the order of one process's requests; then `position` has to be saved."""
    position: Any = None
    """JSON-able; assign a saved one, or None for the start. None for sources that are not streamed."""
    rows: int | None = None
    """How many rows it has; None where nobody knows. Addresses mean something else when it changes."""

    def __init__(self, name: str, spec: SourceBase):
        self.name, self.spec = name, spec

    @abstractmethod
    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        """Where the next sample of a lane lies, `taken` counting how many this lane has asked for before."""

    @abstractmethod
    def fetch(self, address: Address) -> Sample:
        """The sample at an address. Raises BadRow."""

    @abstractmethod
    def place(self, address: Address) -> str:
        """What an address means to the user: the row and the file."""


class Endless(Source):
    """Drawings made on the spot, a random one each time."""

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        return int(rng.integers(_DRAWINGS))

    def place(self, address: Address) -> str:
        return f"drawing {address}"


class Drawings(Endless):
    """A `rendered-text` source."""

    def __init__(self, name: str, spec: RenderedText, seed: int):
        super().__init__(name, spec)
        self._rendered = RenderedTextSource(spec, seed)

    def fetch(self, address: Address) -> Sample:
        spec, drawing = self._rendered.spec, self._rendered.sample(address)
        if spec.task == "mmu":
            return Sample("mmu", text=drawing.text, question=spec.question or "", image=drawing.image)
        return Sample("t2i", text=drawing.caption_long if spec.captions == "long" else drawing.text, image=drawing.image)


class Pictograms(Endless):
    """An `emoji` source."""

    def __init__(self, name: str, spec: Emoji, seed: int):
        super().__init__(name, spec)
        self._emoji = EmojiSource(spec, seed)

    def fetch(self, address: Address) -> Sample:
        spec, drawing = self._emoji.spec, self._emoji.sample(address)
        return Sample(spec.task, text=drawing.name, question=spec.question or "", image=drawing.image)


class Shuffled(Source):
    """A finite source: a fresh permutation each epoch, of which every lane takes its own positions, so that in an epoch each
    row is seen once over all lanes."""

    def __init__(self, name: str, spec: SourceBase, table: Table, read: Read, seed: int, phase: int):
        super().__init__(name, spec)
        self._table, self._read, self._key = table, read, ("rows", seed, phase, name)
        self.rows = len(table)

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        return taken * lanes + lane

    def columns(self) -> tuple[str, ...]:
        """Names of the columns of its first row. Raises BadRow."""
        return self._table.read(0, lambda row, folder: tuple(map(str, row)))

    def fetch(self, address: Address) -> Sample:
        return self._table.read(self._index(address), self._read)

    def place(self, address: Address) -> str:
        return self._table.place(self._index(address))

    def _index(self, address: int) -> int:
        epoch, position = divmod(address, len(self._table))
        return shuffled(position, len(self._table), *self._key, epoch)


class InOrder(Source):
    """Local files read in their own order; of each `world` rows a process takes one."""

    streamed = True

    def __init__(self, name: str, spec: SourceBase, table: Table, read: Read, rank: int, world: int):
        super().__init__(name, spec)
        self._table, self._read, self._rank, self._world = table, read, rank, world
        self.rows = len(table)

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        before = self.position or 0
        self.position = before + 1
        return before * self._world + self._rank

    def fetch(self, address: Address) -> Sample:
        return self._table.read(address % len(self._table), self._read)

    def place(self, address: Address) -> str:
        return self._table.place(address % len(self._table))


class Streamed(Source):
    """A hub dataset read while training, in its own order."""

    streamed = True

    def __init__(self, name: str, spec: SourceBase, stream: hub.HubStream, read: Read):
        super().__init__(name, spec)
        self._stream, self._read = stream, read
        self._last: tuple[Address, Row] | None = None

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        before, row, self.position = self._guarded(self._stream.pull, self.position)
        self._last = before, row
        return before

    def fetch(self, address: Address) -> Sample:
        if self._last is not None and self._last[0] == address:
            row = self._last[1]
        else:
            row = self._guarded(self._stream.pull, address)[1]
        return self._read(row, None)

    def place(self, address: Address) -> str:
        return f"row {address['row'] + 1} of this process's share of {self._stream.label}"

    def _guarded(self, read: Callable[..., Any], *args: Any) -> Any:
        try:
            return read(*args)
        except SmoeError:
            raise
        except Exception as error:
            # Whatever the network and the file formats behind it raise.
            raise Failure(f'source "{self.name}": reading {self._stream.label} failed: {error}') from error


def open_source(name: str, spec: SourceBase, seed: int, phase: int, rank: int = 0, world: int = 1) -> Source:
    """Open a source of a recipe. Raises UserError naming the source when a file or a split does not exist."""
    try:
        if isinstance(spec, RenderedText):
            return Drawings(name, spec, seed)
        if isinstance(spec, Emoji):
            return Pictograms(name, spec, seed)
        if isinstance(spec, PythonDocs):
            return Shuffled(name, spec, Table([_Passages(spec)]), _read_passage, seed, phase)
        assert isinstance(spec, Dataset)
        read = partial(to_sample, spec)
        if is_local(spec.path):
            table = _local_table(spec)
        else:
            found = hub.load_hub(spec.path, spec.config, spec.split, spec.streaming)
            if spec.streaming:
                return Streamed(name, spec, hub.HubStream(found, spec.path, rank, world), read)
            table = Table([hub.DatasetPart(found, spec.path, None)])
        if not len(table):
            raise UserError(f'split "{spec.split}" of "{spec.path}" has no rows', help="is it the right file, and whole?")
        if spec.streaming:
            return InOrder(name, spec, table, read, rank, world)
        return Shuffled(name, spec, table, read, seed, phase)
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
    openers: dict[str, Callable[[Path], Part]] = {
        ".jsonl": JsonLines,
        ".csv": Csv,
        ".json": open_json,
        ".parquet": hub.ParquetPart if spec.streaming else hub.open_parquet,
    }
    return Table([openers[file.suffix.lower()](file) for file in files])


class _Passages(Part):
    """`python-docs` as a part of a table."""

    label = "pydoc_data.topics"

    def __init__(self, spec: PythonDocs):
        self._texts = prose.passages(spec.split)

    def __len__(self) -> int:
        return len(self._texts)

    def row(self, index: int) -> Row:
        return {"text": self._texts[index]}


def _read_passage(row: Row, folder: Path | None) -> Sample:
    return Sample("lm", text=row["text"])

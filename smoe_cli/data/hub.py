"""Data read through `datasets`: the hub, local Parquet files, folders written by `save_to_disk`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_cli.data.tables import Part, Row
from smoe_cli.errors import UserError

if TYPE_CHECKING:
    import datasets


DAMAGED = "is it the right file, and whole? copy it again"


def quiet_datasets() -> Any:
    """The `datasets` module, without its download counter and usage reports."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets


class DatasetPart(Part):
    """A `datasets.Dataset`. Images stay encoded, so that a broken one spoils one row; class labels become their names."""

    def __init__(self, dataset: datasets.Dataset, label: str, folder: Path | None):
        self.label, self.folder = label, folder
        self._dataset, self._names = _undecoded(dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, index: int) -> Row:
        return _named(self._dataset[index], self._names)


class ParquetPart(Part):
    """A Parquet file read one row group at a time, without a copy on disk: for streaming, where rows come in order."""

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self.label, self.folder, self._path = str(path), path.parent, path
        try:
            metadata = pq.read_metadata(path)
            features = quiet_datasets().Features.from_arrow_schema(pq.read_schema(path))
        except Exception as error:
            raise UserError(f'"{path}" cannot be read: {_first_line(error)}', help=DAMAGED) from error
        self._ends = [0]
        for group in range(metadata.num_row_groups):
            self._ends.append(self._ends[-1] + metadata.row_group(group).num_rows)
        self._names = _class_names(features)
        self._held: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, index: int) -> Row:
        import pyarrow.parquet as pq

        group = next(g for g, end in enumerate(self._ends[1:]) if index < end)
        if self._held[0] != group:
            with pq.ParquetFile(self._path) as file:
                self._held = (group, file.read_row_group(group))
        row = self._held[1].slice(index - self._ends[group], 1).to_pylist()[0]
        return _named(row, self._names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": (-1, None)}


def open_parquet(path: Path) -> DatasetPart:
    """A Parquet file, memory-mapped after a conversion to Arrow that `datasets` caches."""
    try:
        dataset = quiet_datasets().Dataset.from_parquet(str(path))
    except Exception as error:
        # `datasets` wraps what went wrong in an error that only says that something did.
        raise UserError(f'"{path}" cannot be read: {_first_line(error.__cause__ or error)}', help=DAMAGED) from error
    return DatasetPart(dataset, str(path), path.parent)


def saved_to_disk(folder: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def open_saved(folder: Path, split: str) -> DatasetPart:
    """A folder written by `save_to_disk`. A dataset without splits is the split `train`."""
    module = quiet_datasets()
    try:
        loaded = module.load_from_disk(str(folder))
    except Exception as error:
        raise UserError(f'"{folder}" cannot be read: {_first_line(error)}', help=DAMAGED) from error
    splits = loaded if isinstance(loaded, module.DatasetDict) else {"train": loaded}
    if split not in splits:
        raise UserError(f'"{folder}" has no split "{split}"', help=f"it has: {', '.join(sorted(splits))}")
    return DatasetPart(splits[split], str(folder), folder)


def load_hub(path: str, config: str | None, split: str, streaming: bool) -> Any:
    """A `datasets.Dataset`, or `IterableDataset` if streaming. Raises UserError with what the hub answered."""
    module = quiet_datasets()
    try:
        return module.load_dataset(path, config, split=split, streaming=streaming)
    except Exception as error:
        # ConnectionError, DatasetNotFoundError, ValueError (split, configuration), OSError, …: the first line says which.
        raise UserError(
            f'dataset "{path}" cannot be loaded: {_first_line(error)}',
            help="there is no local file or folder of that name either; check the spelling, `config` and `split`",
        ) from error


class HubStream:
    """Rows of an `IterableDataset`, over and over, of which each of `world` processes gets its share.

    Rows come in their own order; from the second epoch on, `datasets` changes the order of the files. Positions are its own.
    """

    def __init__(self, dataset: datasets.IterableDataset, label: str, rank: int, world: int):
        from datasets.distributed import split_dataset_by_node

        self.label = label
        undecoded, self._names = _undecoded(dataset)
        self._dataset = split_dataset_by_node(undecoded, rank=rank, world_size=world)
        self._open: tuple[dict[str, Any], Iterator[dict[str, Any]]] | None = None

    def pull(self, position: dict[str, Any] | None) -> tuple[dict[str, Any], Row, dict[str, Any]]:
        """(position, row, position after it) for a position, None being the start; both positions JSON-able.

        Quick when it continues the last pull. Otherwise the stream is opened anew.
        """
        position = position or {"epoch": 0, "row": 0, "dataset": None}
        if self._open is None or self._open[0] != position:
            self._open = position, self._rows_from(position)
        rows = self._open[1]
        row = next(rows, None)
        if row is None:
            if position["row"] == 0:
                raise UserError(f'dataset "{self.label}" has no rows for this process', help="use fewer processes")
            return self.pull({"epoch": position["epoch"] + 1, "row": 0, "dataset": None})
        after = {"epoch": position["epoch"], "row": position["row"] + 1, "dataset": self._dataset.state_dict()}
        self._open = after, rows
        return position, _named(row, self._names), after

    def _rows_from(self, position: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # A loaded state counts only in the epoch it was saved in; one of no epoch makes a fresh start.
        self._dataset.set_epoch(position["epoch"])
        self._dataset.load_state_dict(position["dataset"] or {"epoch": -1})
        return iter(self._dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


def _undecoded(dataset: Any) -> tuple[Any, dict[str, list[str]]]:
    """(the dataset with its images left encoded, {column: names of its classes})."""
    module = quiet_datasets()
    features = dataset.features or {}
    for column, feature in features.items():
        if isinstance(feature, module.Image):
            dataset = dataset.cast_column(column, module.Image(decode=False))
    return dataset, _class_names(features)


def _class_names(features: Any) -> dict[str, list[str]]:
    module = quiet_datasets()
    return {column: feature.names for column, feature in features.items() if isinstance(feature, module.ClassLabel)}


def _named(row: dict[str, Any], names: dict[str, list[str]]) -> Row:
    """A row with the names of its classes in place of their numbers."""
    found = {column: values[row[column]] for column, values in names.items() if row[column] is not None and row[column] >= 0}
    return {**row, **found}


def _first_line(error: BaseException) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[0]

"""Data read through `datasets`: the hub, local Parquet files, folders written by `save_to_disk`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_cli.data.tables import Part, Row
from smoe_cli.errors import UserError

if TYPE_CHECKING:
    import datasets


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
            raise UserError(f'"{path}" cannot be read: {_first_line(error)}') from error
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


def open_parquet(files: Sequence[Path]) -> list[DatasetPart]:
    """Parquet files, memory-mapped after a conversion to Arrow that `datasets` caches."""
    module = quiet_datasets()
    names = [f"file{i}" for i in range(len(files))]
    try:
        # A split for each file: rows stay attributable to their file, for errors and for relative paths.
        loaded = module.load_dataset("parquet", data_files={name: str(file) for name, file in zip(names, files, strict=True)})
    except Exception as error:
        which = f'"{files[0]}"' + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        raise UserError(f"{which} cannot be read: {_first_line(error)}") from error
    return [DatasetPart(loaded[name], str(file), file.parent) for name, file in zip(names, files, strict=True)]


def saved_to_disk(folder: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def open_saved(folder: Path, split: str) -> DatasetPart:
    """A folder written by `save_to_disk`. A dataset without splits is the split `train`."""
    module = quiet_datasets()
    try:
        loaded = module.load_from_disk(str(folder))
    except Exception as error:
        raise UserError(f'"{folder}" cannot be read: {_first_line(error)}') from error
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
    """Rows of an `IterableDataset` in order, over and over; every `world`-th one. Its position is saved by `datasets`."""

    def __init__(self, dataset: datasets.IterableDataset, label: str, rank: int, world: int):
        from datasets.distributed import split_dataset_by_node

        self.label = label
        undecoded, self._names = _undecoded(dataset)
        self._dataset = split_dataset_by_node(undecoded, rank=rank, world_size=world)
        self.position: dict[str, Any] | None = None
        """JSON-able; assign a saved one to continue there, None to begin."""
        self._rows: Iterator[dict[str, Any]] | None = None
        self._ahead: dict[str, Any] | None = None

    def pull(self) -> tuple[dict[str, Any], Row]:
        """(position before the row, row)."""
        before = self.position or {"epoch": 0, "row": 0, "dataset": None}
        if self._rows is None or self._ahead is not self.position:
            self._rows = self._open(before)
        row = next(self._rows, None)
        if row is None:
            if before["row"] == 0:
                raise UserError(f'dataset "{self.label}" has no rows for this process', help="use fewer processes")
            self.position = {"epoch": before["epoch"] + 1, "row": 0, "dataset": None}
            return self.pull()
        self.position = {"epoch": before["epoch"], "row": before["row"] + 1, "dataset": self._dataset.state_dict()}
        self._ahead = self.position
        return before, _named(row, self._names)

    def reread(self, position: dict[str, Any]) -> Row:
        """The row that came after a position. Slow: the stream is opened anew, now and at the next pull."""
        row = next(self._open(position))
        self._ahead = None
        return _named(row, self._names)

    def _open(self, position: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # A loaded state counts only while the epoch is its own; another epoch starts at the first row.
        self._dataset.set_epoch(position["epoch"])
        if position["dataset"] is not None:
            self._dataset.load_state_dict(position["dataset"])
        else:
            self._dataset.load_state_dict({"epoch": -1})
        return iter(self._dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_ahead": None}


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

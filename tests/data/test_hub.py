"""Parquet, saved datasets and hub streams, through `datasets`."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.data import hub
from smoe_cli.errors import UserError

from .make import png

N = 23


def _dataset(**columns: Any) -> Any:
    import datasets

    return datasets.Dataset.from_dict(columns or {"text": [str(i) for i in range(N)]})


def _stream(files: int = 3, rank: int = 0, world: int = 1) -> hub.HubStream:
    return hub.HubStream(_dataset().to_iterable_dataset(num_shards=files), "org/name", rank, world)


def _pull(stream: hub.HubStream, n: int, position: Any = None) -> tuple[list[str], list[Any]]:
    """(texts, position before each row and after the last one)."""
    texts, positions = [], []
    for _ in range(n):
        before, row, position = stream.pull(position)
        texts.append(row["text"])
        positions.append(before)
    return texts, [*positions, position]


def test_parquet_parts_know_their_file_and_need_not_have_equal_columns(quiet: Path) -> None:
    for n, column in ((2, "a"), (3, "b")):
        file = quiet / f"{n}" / "a.parquet"
        file.parent.mkdir()
        _dataset(**{column: [f"{n}.{i}" for i in range(n)]}).to_parquet(str(file))
        part = hub.open_parquet(file)
        assert [part.row(i) for i in range(len(part))] == [{column: f"{n}.{i}"} for i in range(n)]
        assert (part.label, part.folder) == (str(file), file.parent)


def test_images_stay_encoded_and_classes_get_their_names(quiet: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = datasets.Dataset.from_dict({"image": [{"bytes": png(), "path": None}] * 3, "label": [1, 0, -1]}, features=features)
    made.to_parquet(str(quiet / "a.parquet"))
    made.save_to_disk(str(quiet / "saved"))
    parts = [
        hub.open_parquet(quiet / "a.parquet"),
        hub.ParquetPart(quiet / "a.parquet"),
        hub.open_saved(quiet / "saved", "train"),
    ]
    for part in parts:
        assert [part.row(i)["label"] for i in range(3)] == ["dog", "cat", -1]
        assert part.row(0)["image"]["bytes"] == png()
    _, row, _ = hub.HubStream(made.to_iterable_dataset(), "x", 0, 1).pull(None)
    assert (row["label"], row["image"]["bytes"]) == ("dog", png())


def test_a_parquet_part_reads_any_row_across_groups(quiet: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [str(i) for i in range(N)]}), quiet / "a.parquet", row_group_size=5)
    part = hub.ParquetPart(quiet / "a.parquet")
    assert len(part) == N
    order = [22, 0, 5, 4, *range(N)]
    assert [part.row(i)["text"] for i in order] == [str(i) for i in order]
    assert pickle.loads(pickle.dumps(part)).row(7)["text"] == "7"


def test_damaged_parquet_is_named(quiet: Path) -> None:
    (quiet / "bad.parquet").write_bytes(b"PAR1 no")
    for read in (hub.ParquetPart, hub.open_parquet):
        with pytest.raises(UserError, match=r'bad\.parquet" cannot be read: .*(Parquet|magic|small)'):
            read(quiet / "bad.parquet")


def test_saved_datasets_have_splits(quiet: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": _dataset(), "test": _dataset(text=["t"])}).save_to_disk(str(quiet / "saved"))
    assert hub.saved_to_disk(quiet / "saved")
    assert not hub.saved_to_disk(quiet)
    assert hub.open_saved(quiet / "saved", "test").row(0) == {"text": "t"}
    with pytest.raises(UserError, match='no split "dev"') as caught:
        hub.open_saved(quiet / "saved", "dev")
    assert caught.value.help == "it has: test, train"


def test_what_the_hub_answers_is_shown(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(path: str, config: str | None, split: str, streaming: bool) -> None:
        raise ValueError(f'Unknown split "{split}". Should be one of ["train"].\nmore')

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        UserError, match=r'dataset "org/name" cannot be loaded: Unknown split "tset"\. Should be one of \["train"\]\.'
    ):
        hub.load_hub("org/name", None, "tset", streaming=False)


def test_a_stream_goes_round(quiet: Path) -> None:
    """In the order of the files at first, then with the files in another order each time (as `datasets` does)."""
    texts, positions = _pull(_stream(), 3 * N + 5)
    assert texts[:N] == [str(i) for i in range(N)]
    epochs = [texts[i : i + N] for i in (0, N, 2 * N)]
    assert all(sorted(epoch) == sorted(texts[:N]) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1
    assert [(p["epoch"], p["row"]) for p in positions[:-1]] == [divmod(i, N) for i in range(3 * N + 5)]


@pytest.mark.parametrize("files", [1, 3])
def test_a_stream_continues_from_any_position(quiet: Path, files: int) -> None:
    """In a new process (a new stream), and in the middle of another pull, also after JSON."""
    texts, positions = _pull(_stream(files), 2 * N + 6)
    busy = _stream(files)
    for i, position in enumerate(positions[:-3]):
        for stream in (_stream(files), busy):
            assert _pull(stream, 3, json.loads(json.dumps(position)))[0] == texts[i : i + 3]


@pytest.mark.parametrize("files", [1, 2, 4])
def test_processes_share_a_stream_without_overlap(quiet: Path, files: int) -> None:
    shares = [_pull(_stream(files, rank, 2), N // 2)[0] for rank in (0, 1)]
    assert set(shares[0]).isdisjoint(shares[1])
    assert len(set(shares[0]) | set(shares[1])) == N - 1


def test_a_stream_without_rows_is_refused(quiet: Path) -> None:
    with pytest.raises(UserError, match="has no rows for this process"):
        _pull(hub.HubStream(_dataset(text=["only"]).to_iterable_dataset(), "org/name", 1, 2), 1)


def test_a_stream_survives_pickling(quiet: Path) -> None:
    stream = _stream()
    texts, positions = _pull(stream, 5)
    assert _pull(pickle.loads(pickle.dumps(stream)), 2, positions[3])[0] == texts[3:]


def test_datasets_is_kept_from_reporting(quiet: Path) -> None:
    assert not hub.quiet_datasets().config.HF_UPDATE_DOWNLOAD_COUNTS

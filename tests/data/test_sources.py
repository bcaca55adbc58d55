"""Every kind of source, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoe_cli.data.prose import passages
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.data.sources import Source, open_source
from smoe_cli.errors import Failure, UserError
from smoe_cli.recipe.models import PythonDocs

from .make import dataset, png, rendered, write_csv, write_jsonl

RNG = np.random.default_rng(0)


def _take(source: Source, n: int, lanes: int = 1) -> list[Sample]:
    """What `lanes` lanes get that ask n times each, in turn."""
    return [source.fetch(source.next_address(taken, lane, lanes, RNG)) for taken in range(n) for lane in range(lanes)]


def _texts(source: Source, n: int, lanes: int = 1) -> list[str]:
    return [sample.text for sample in _take(source, n, lanes)]


def _open(spec: Any, **where: int) -> Source:
    return open_source("mine", spec, seed=where.pop("seed", 3), phase=where.pop("phase", 0), **where)


# ------------------------------------------------------------------------------------------------------------ formats


def _rows(n: int = 6) -> list[dict[str, str]]:
    return [{"text": f"row {i}"} for i in range(n)]


def _write(folder: Path, kind: str) -> Path:
    """Six rows in files of a kind; the path that a recipe would give."""
    rows = _rows()
    if kind == "csv":
        return write_csv(folder / "a.csv", [["text"], *([row["text"]] for row in rows)])
    if kind == "json":
        (folder / "a.json").write_text(json.dumps(rows))
        return folder / "a.json"
    if kind == "mixed folder":
        write_jsonl(folder / "in/train-1.jsonl", rows[:2])
        write_csv(folder / "in/train-2.csv", [["text"], *([row["text"]] for row in rows[2:])])
        write_jsonl(folder / "in/test.jsonl", [{"text": "not for training"}])
        return folder / "in"
    if kind == "glob":
        write_jsonl(folder / "part1.jsonl", rows[:2])
        write_jsonl(folder / "part2.jsonl", rows[2:])
        return folder / "part*.jsonl"
    if kind == "jsonl":
        return write_jsonl(folder / "a.jsonl", rows)
    import datasets

    made = datasets.Dataset.from_list(rows)
    if kind == "saved":
        made.save_to_disk(str(folder / "saved"))
        return folder / "saved"
    made.select(range(2)).to_parquet(str(folder / "in/train-00000-of-00002.parquet"))
    made.select(range(2, 6)).to_parquet(str(folder / "in/train-00001-of-00002.parquet"))
    return folder / "in"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "json", "glob", "mixed folder", "parquet", "saved"])
def test_text_from_every_format(quiet: Path, kind: str, streaming: bool) -> None:
    source = _open(dataset(_write(quiet, kind), streaming=streaming))
    expected = [row["text"] for row in _rows()]
    assert source.streamed == streaming
    first, second = _texts(source, 6), _texts(source, 6) if streaming else [s.text for s in _take(source, 12)[6:]]
    if streaming:
        assert first == second == expected
    else:
        assert sorted(first) == sorted(second) == expected
        assert first != second, "each epoch in an order of its own"


def test_hub_datasets_whole_and_streamed(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def answer(path: str, config: str | None, split: str, streaming: bool) -> Any:
        assert (path, config, split) == ("org/name", "small", "validation")
        made = datasets.Dataset.from_list(_rows())
        return made.to_iterable_dataset(num_shards=2) if streaming else made

    monkeypatch.setattr(datasets, "load_dataset", answer)
    spec = dataset("org/name", config="small", split="validation")
    assert sorted(_texts(_open(spec), 6)) == [row["text"] for row in _rows()]
    source = _open(spec.model_copy(update={"streaming": True}))
    assert _texts(source, 8) == [f"row {i % 6}" for i in range(8)]
    address = source.next_address(8, 0, 1, RNG)
    assert source.place(address) == "row 3 of this process's share of org/name"


def test_a_failing_stream_is_a_failure_that_names_the_source(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def rows() -> Any:
        yield {"text": "a"}
        raise ConnectionError("the network is down")

    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.IterableDataset.from_generator(rows))
    source = _open(dataset("org/name", streaming=True))
    assert _texts(source, 1) == ["a"]
    with pytest.raises(Failure, match='source "mine": reading org/name failed: the network is down'):
        _take(source, 1)


def _image_rows(folder: Path, kind: str) -> Path:
    """Two images with question, answer and caption."""
    rows = [{"question": f"q{i}", "answer": f"a{i}", "caption": f"c{i}"} for i in range(2)]
    (folder / "in/img").mkdir(parents=True)
    images = [png() for _ in rows]
    for i, image in enumerate(images):
        (folder / f"in/img/{i}.png").write_bytes(image)
    if kind == "jsonl":
        return write_jsonl(folder / "in/a.jsonl", [{**row, "image": f"img/{i}.png"} for i, row in enumerate(rows)])
    if kind == "csv":
        records = [[*row.values(), f"img/{i}.png"] for i, row in enumerate(rows)]
        return write_csv(folder / "in/a.csv", [["question", "answer", "caption", "image"], *records])
    if kind == "image folder":
        write_csv(
            folder / "in/metadata.csv",
            [["file_name", *rows[0]], *([f"img/{i}.png", *row.values()] for i, row in enumerate(rows))],
        )
        return folder / "in"
    import datasets

    if kind == "Image feature":
        made = datasets.Dataset.from_list(
            [{**row, "image": {"bytes": i, "path": None}} for row, i in zip(rows, images, strict=True)]
        )
        made = made.cast_column("image", datasets.Image())
    elif kind == "binary":
        made = datasets.Dataset.from_list([{**row, "image": i} for row, i in zip(rows, images, strict=True)])
    else:
        made = datasets.Dataset.from_list([{**row, "image": f"img/{i}.png"} for i, row in enumerate(rows)])
    made.to_parquet(str(folder / "in/a.parquet"))
    return folder / "in/a.parquet"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "image folder", "Image feature", "binary", "path in parquet"])
def test_images_from_every_format(quiet: Path, kind: str, streaming: bool) -> None:
    path = _image_rows(quiet, kind)
    read = sorted(_take(_open(dataset(path, "mmu", streaming=streaming)), 2), key=lambda sample: sample.text)
    assert [(sample.task, sample.question, sample.text) for sample in read] == [("mmu", "q0", "a0"), ("mmu", "q1", "a1")]
    draw = sorted(_take(_open(dataset(path, "t2i", streaming=streaming)), 2), key=lambda sample: sample.text)
    assert [(sample.task, sample.text) for sample in draw] == [("t2i", "c0"), ("t2i", "c1")]
    for sample in (*read, *draw):
        assert sample.image is not None
        assert (sample.image.mode, sample.image.size, sample.image.getpixel((0, 0))) == ("RGB", (8, 6), (10, 200, 30))


def test_class_folders_give_their_names(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    source = _open(dataset(tmp_path, "t2i", columns={"caption": "label"}))
    assert sorted(_texts(source, 2)) == ["cat", "dog"]


def test_a_fixed_question_replaces_the_column(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    path = write_jsonl(tmp_path / "a.jsonl", [{"image": "a.png", "answer": ["first", "second"]}])
    (sample,) = _take(_open(dataset(path, "mmu", question="What is it?")), 1)
    assert (sample.question, sample.text) == ("What is it?", "first")


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"body": "here"}])
    assert _texts(_open(dataset(path, columns={"text": "body"})), 1) == ["here"]


def test_rendered_text_reads_and_draws() -> None:
    read = _take(_open(rendered(question="What does it say?")), 5)
    assert all(s.task == "mmu" and s.question == "What does it say?" and s.text.isdigit() for s in read)
    assert all(s.image is not None and s.image.size == (32, 16) for s in read)
    assert all(s.text.isdigit() for s in _take(_open(rendered(task="t2i")), 5))
    assert all(s.text.startswith('It reads "') for s in _take(_open(rendered(task="t2i", captions="long")), 5))


def test_python_docs_are_read_through_once_an_epoch() -> None:
    n = len(passages())
    assert sorted(_texts(_open(PythonDocs(kind="python-docs", task="lm")), n)) == sorted(passages())


# -------------------------------------------------------------------------------------------------- order and sharing


@pytest.mark.parametrize("lanes", [1, 2, 3, 7, 10])
def test_an_epoch_sees_each_row_once_over_all_lanes(tmp_path: Path, lanes: int) -> None:
    source = _open(dataset(write_jsonl(tmp_path / "a.jsonl", _rows(6))))
    addresses = [source.next_address(taken, lane, lanes, RNG) for lane in range(lanes) for taken in range(6)]
    assert sorted(addresses) == list(range(6 * lanes))
    for epoch in range(lanes):
        seen = [source.fetch(address).text for address in addresses if address // 6 == epoch]
        assert sorted(seen) == [row["text"] for row in _rows(6)]


def test_seed_phase_and_name_shuffle_differently(tmp_path: Path) -> None:
    spec = dataset(write_jsonl(tmp_path / "a.jsonl", _rows(30)))
    orders = {
        tuple(_texts(open_source(name, spec, seed, phase), 30))
        for name, seed, phase in (("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1))
    }
    assert len(orders) == 4
    assert tuple(_texts(open_source("a", spec, 0, 0), 30)) in orders


def test_processes_share_a_local_stream_row_by_row(tmp_path: Path) -> None:
    spec = dataset(write_jsonl(tmp_path / "a.jsonl", _rows(6)), streaming=True)
    assert [_texts(_open(spec, rank=rank, world=2), 3) for rank in (0, 1)] == [
        ["row 0", "row 2", "row 4"],
        ["row 1", "row 3", "row 5"],
    ]


# --------------------------------------------------------------------------------------------------------- bad things

IMAGE = {"image": "a.png"}


@pytest.mark.parametrize(
    ("task", "row", "reason", "detail"),
    [
        ("lm", {"body": "x", "id": 1}, 'no column "text"', 'no column "text" (columns: body, id)'),
        ("lm", {}, 'no column "text"', 'no column "text" (columns: none)'),
        ("lm", {"text": " \n"}, 'column "text" is empty', None),
        ("lm", {"text": None}, 'column "text" is missing a value', None),
        ("lm", {"text": 12}, 'column "text" is not text', 'column "text" is int, not text: 12'),
        ("lm", {"text": ["x"]}, 'column "text" is not text', "column \"text\" is list, not text: ['x']"),
        ("t2i", {"caption": "c"}, 'no column "image"', 'no column "image" (columns: caption)'),
        ("t2i", {**IMAGE, "caption": ""}, 'column "caption" is empty', None),
        ("t2i", {"image": "gone.png", "caption": "c"}, "image file not found", None),
        ("t2i", {"image": "notes.txt", "caption": "c"}, "image cannot be read", None),
        ("t2i", {"image": 3, "caption": "c"}, "image has the wrong type", "image is int, not an image, bytes or a path"),
        ("mmu", {**IMAGE, "answer": "a"}, 'no column "question"', 'no column "question" (columns: answer, image)'),
        ("mmu", {**IMAGE, "question": "q", "answer": []}, 'column "answer" is an empty list', None),
        (
            "mmu",
            {**IMAGE, "question": "q", "answer": [4]},
            'column "answer" is not text',
            'column "answer" is int, not text: 4',
        ),
        ("mmu", {**IMAGE, "question": "q", "answer": ""}, 'column "answer" is empty', None),
    ],
)
def test_what_is_wrong_with_a_row_is_said(
    tmp_path: Path, task: str, row: dict[str, Any], reason: str, detail: str | None
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "notes.txt").write_text("x")
    source = _open(dataset(write_jsonl(tmp_path / "a.jsonl", [row]), task))
    address = source.next_address(0, 0, 1, RNG)
    with pytest.raises(BadRow) as caught:
        source.fetch(address)
    assert caught.value.reason == reason
    if detail:
        assert caught.value.detail == detail
    assert source.place(address) == f"row 1 of {tmp_path}/a.jsonl"


def test_an_empty_question_is_no_question(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (sample,) = _take(_open(dataset(write_jsonl(tmp_path / "a.jsonl", [{**IMAGE, "question": "", "answer": "a"}]), "mmu")), 1)
    assert sample.question == ""


@pytest.mark.parametrize(
    ("spec", "message", "help"),
    [
        ({"path": "none.jsonl"}, 'there is no file or folder "none.jsonl"', ". holds: a.jsonl"),
        ({"path": "a.jsonl", "split": "test"}, '"a.jsonl" has no split "test"', "it has: train"),
        ({"path": "a.jsonl", "config": "en"}, "`config` names a configuration of a hub dataset", "remove `config`"),
        ({"path": "empty.jsonl"}, 'split "train" of "empty.jsonl" has no rows', ""),
    ],
)
def test_what_cannot_be_opened_names_source_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, str], message: str, help: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", _rows())
    if spec["path"] == "empty.jsonl":
        write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError) as caught:
        _open(dataset(**spec))
    assert caught.value.message.startswith(f'source "mine": {message}')
    assert help.lstrip(". ") in (caught.value.help or "")

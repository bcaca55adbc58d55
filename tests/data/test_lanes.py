"""Packing: nothing lost, nothing cut that must not be, and the same again after a restart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoe_cli.data.batch import Row
from smoe_cli.data.documents import Column, Document
from smoe_cli.data.lanes import MOST_BROKEN, SMALLEST_PIECE, Lane, Stream
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.errors import UserError

from .make import Listed, picture
from .test_documents import BUILDER

DOCUMENT, SOURCE = len(Column), len(Column) + 1
TARGETS = Column.TARGETS


def _stream(items: Sequence[Sample | BadRow], length: int, **spec: Any) -> Stream:
    return Stream(
        seed=0,
        phase=0,
        lanes=1,
        sequence_length=length,
        shift=1.0,
        sources=[Listed("listed", items, **spec)],
        source_ids=[5],
        weights=[1.0],
        builder=BUILDER,
    )


def _sample(kind: str, size: int) -> Sample:
    """Samples whose text says how long it is, so that no two kinds look alike."""
    text = f"{kind}{size}" + "abcdefg"[: size % 7] * (size // 3)
    if kind == "lm":
        return Sample("lm", text)
    if kind == "mmu":
        return Sample("mmu", text[:20], question="?" * (size % 3), image=picture((size, 0, 0)))
    return Sample("t2i", text[:20], image=picture((0, size, 0)))


SAMPLES = st.lists(st.builds(_sample, st.sampled_from(["lm", "mmu", "t2i"]), st.integers(0, 200)), min_size=1, max_size=8)


def _document(sample: Sample) -> Document:
    if sample.task == "lm":
        return BUILDER.lm(sample.text)
    assert sample.image is not None
    if sample.task == "mmu":
        return BUILDER.mmu(sample.image, sample.question, sample.text)
    return BUILDER.t2i(sample.image, sample.text, 0.5, np.zeros((4, 96), np.float32))


def _pieces(row: Row) -> list[np.ndarray]:
    """The documents of a row, (7, n) each."""
    ids = row.columns[DOCUMENT]
    return [row.columns[:, ids == i] for i in range(ids.max() + 1)]


@settings(max_examples=80, deadline=None)
@given(items=SAMPLES, length=st.integers(40, 130))
def test_rows_hold_the_drawn_documents_in_order(items: list[Sample], length: int) -> None:
    """Rows without their padding, one after the other, are the documents one after the other: no token is lost, repeated or
    moved, every target is that of its own document, every image is whole and travels with its pixels."""
    lane = Lane(_stream(items, length, caption_dropout=0.0), 0)
    rows = [lane.next_row() for _ in range(8)]
    packed = np.concatenate([row.columns[:, row.columns[DOCUMENT] >= 0] for row in rows], axis=1)
    documents = [_document(items[i % len(items)]) for i in range(lane.state()["draws"])]
    whole = np.concatenate([document.columns for document in documents], axis=1)
    for column in (Column.IDS, Column.TARGETS, Column.MODALITY):
        assert (packed[column] == whole[column, : packed.shape[1]]).all()
    assert packed.shape[1] >= whole.shape[1] - max(map(len, documents))

    expected_seen = [image for document in documents for image in document.seen]
    seen = [image for row in rows for image in row.seen]
    assert len(expected_seen) - 1 <= len(seen) <= len(expected_seen)
    assert all((a == b).all() for a, b in zip(seen, expected_seen, strict=False))
    expected_drawn = [drawing for document in documents for drawing in document.drawn]
    for got, expected in zip([d for row in rows for d in row.drawn], expected_drawn, strict=False):
        assert (got.pixels == expected.pixels).all()


@settings(max_examples=80, deadline=None)
@given(items=SAMPLES, length=st.integers(40, 130))
def test_every_row_is_well_formed(items: list[Sample], length: int) -> None:
    lane = Lane(_stream(items, length), 0)
    for _ in range(8):
        row = lane.next_row()
        columns = row.columns
        assert columns.shape == (9, length)
        used = int((columns[DOCUMENT] >= 0).sum())
        assert used > 0
        padding = np.array([[0], [-100], [0], [-1], [0], [0], [0], [-1], [-1]])
        assert (columns[:, used:] == padding).all(), "padding at the end only"
        assert (columns[SOURCE, :used] == 5).all()
        assert sorted(columns[DOCUMENT, :used]) == columns[DOCUMENT, :used].tolist(), "documents are contiguous"
        images = 0
        for piece in _pieces(row):
            positions, inside = piece[Column.POSITION], piece[Column.IMAGE] >= 0
            assert positions[0] == 0
            assert set(np.diff(positions)) <= {0, 1}
            assert (np.diff(positions)[~(inside[1:] & inside[:-1])] == 1).all(), "only inside an image do positions stand still"
            if inside.any():
                assert piece[Column.IDS, 0] == 1, "an image sample begins with <bos>, so it was not cut"
                assert inside.sum() == 4
                assert set(piece[Column.IMAGE, inside]) == {images}
                images += 1
            targets = piece[TARGETS, :-1]
            assert ((targets == -100) | (targets == piece[Column.IDS, 1:])).all(), "the next token of the same document"
        assert images == len(row.seen) + len(row.drawn)
        assert len(row.drawn_source) == len(row.drawn)
        assert (columns[TARGETS, columns[Column.MODALITY] > 0] == -100).all()


@settings(max_examples=80, deadline=None)
@given(items=SAMPLES, length=st.integers(40, 130))
def test_padding_has_a_reason(items: list[Sample], length: int) -> None:
    """A row ends early only before an image sample that does not fit, or a text with too little room."""
    stream = _stream(items, length)
    lane = Lane(stream, 0)
    for _ in range(8):
        row = lane.next_row()
        room = int((row.columns[DOCUMENT] < 0).sum())
        carried = lane._carried
        if room:
            assert carried is not None
            assert len(carried.document) > room
            assert carried.document.has_image or room < SMALLEST_PIECE
            assert carried.offset == 0 or room < SMALLEST_PIECE


@settings(max_examples=40, deadline=None)
@given(items=SAMPLES, length=st.integers(40, 130), stop=st.integers(0, 8))
def test_a_lane_continues_from_its_state(items: list[Sample], length: int, stop: int) -> None:
    stream = _stream(items, length, caption_dropout=0.3)
    straight, stopped = Lane(stream, 0), Lane(stream, 0)
    rows = [straight.next_row() for _ in range(stop + 4)]
    for _ in range(stop):
        stopped.next_row()
    resumed = Lane(stream, 0, json.loads(json.dumps(stopped.state())))
    for row in rows[stop:]:
        again = resumed.next_row()
        assert (again.columns == row.columns).all()
        assert all((a == b).all() for a, b in zip(again.seen, row.seen, strict=True))
        assert all((a.noise == b.noise).all() and a.timestep == b.timestep for a, b in zip(again.drawn, row.drawn, strict=True))
    assert resumed.state() == straight.state()


def test_targets_of_a_cut_text_are_all_there() -> None:
    """Each token after <bos> is predicted exactly once, although the text lies in four rows."""
    text = "x" * 150
    lane = Lane(_stream([Sample("lm", text)], 40), 0)
    targets = np.concatenate([lane.next_row().columns[TARGETS] for _ in range(4)])
    assert (targets[:151] == [5 + ord("x")] * 150 + [2]).all()


def test_a_state_is_small() -> None:
    lane = Lane(_stream([Sample("lm", "x" * 100_000)], 64), 0)
    for _ in range(50):
        lane.next_row()
    assert len(json.dumps(lane.state())) < 200


def test_captions_are_dropped_as_often_as_asked() -> None:
    lane = Lane(_stream([Sample("t2i", "abc", image=picture())], 64, caption_dropout=0.2), 0)
    lengths = [piece.shape[1] for _ in range(300) for piece in _pieces(lane.next_row())]
    assert set(lengths) == {7, 10}
    assert 0.15 < lengths.count(7) / len(lengths) < 0.25


def test_the_mixture_is_in_numbers_of_samples() -> None:
    sources = [Listed("a", [Sample("lm", "a")]), Listed("b", [Sample("lm", "b")]), Listed("c", [Sample("lm", "c")])]
    stream = Stream(0, 0, 1, 64, 1.0, sources, [0, 1, 2], [1.0, 2.0, 5.0], BUILDER)
    lane = Lane(stream, 0)
    for _ in range(200):
        lane.next_row()
    drawn = [counts["drawn"] for counts in lane.state()["report"].values()]
    assert np.abs(np.array(drawn) / sum(drawn) - np.array([1, 2, 5]) / 8).max() < 0.03


BROKEN = BadRow("no text", "no text at all")


def test_broken_rows_stop_the_run_by_name() -> None:
    lane = Lane(_stream([Sample("lm", "fine"), BROKEN], 64), 0)
    with pytest.raises(UserError, match=r'source "listed": item 1: no text at all\n  help: .*on_bad_row: skip'):
        lane.next_row()


def test_broken_rows_are_skipped_and_counted() -> None:
    lane = Lane(_stream([BROKEN, Sample("lm", "fine"), BROKEN, BadRow("other")], 64, on_bad_row="skip"), 0)
    row = lane.next_row()
    assert {bytes(piece[Column.IDS, 1:5].astype(np.uint8) - 5) for piece in _pieces(row)[:-1]} == {b"fine"}
    report = lane.state()["report"]["listed"]
    assert report["reasons"] == {"no text": 2 * report["drawn"] - 1, "other": report["drawn"] - 1}
    assert report["skipped"] == sum(report["reasons"].values()) == len(lane.notices)
    assert lane.notices[0] == ("listed", "no text", 'source "listed": item 0: no text at all')
    resumed = Lane(lane._stream, 0, json.loads(json.dumps(lane.state())))
    assert resumed.state() == lane.state()


def test_skipping_keeps_the_mixture() -> None:
    sources = [Listed("good", [Sample("lm", "g")]), Listed("bad", [BROKEN, BROKEN, Sample("lm", "b")], on_bad_row="skip")]
    lane = Lane(Stream(0, 0, 1, 64, 1.0, sources, [0, 1], [1.0, 1.0], BUILDER), 0)
    for _ in range(100):
        lane.next_row()
    good, bad = (counts["drawn"] for counts in lane.state()["report"].values())
    assert 0.45 < good / (good + bad) < 0.55


def test_nothing_but_broken_rows_stops_the_run() -> None:
    lane = Lane(_stream([BROKEN], 64, on_bad_row="skip"), 0)
    with pytest.raises(
        UserError, match=f'^{MOST_BROKEN} rows in a row are broken; the last: source "listed": item 999: no text'
    ):
        lane.next_row()


def test_an_image_sample_longer_than_a_row_is_a_broken_row() -> None:
    long = Sample("mmu", "a" * 60, image=picture())
    with pytest.raises(UserError, match="item 0: a sample of 68 tokens does not fit a row of 64"):
        Lane(_stream([long], 64), 0).next_row()
    lane = Lane(_stream([long, Sample("lm", "ok")], 64, on_bad_row="skip"), 0)
    lane.next_row()
    assert set(lane.state()["report"]["listed"]["reasons"]) == {"longer than a row"}


def test_data_that_changed_under_a_stopped_run_is_named() -> None:
    items: list[Sample | BadRow] = [Sample("lm", "x" * 100)]
    stream = _stream(items, 64)
    lane = Lane(stream, 0)
    lane.next_row()
    items[0] = BROKEN
    with pytest.raises(UserError, match="item 0 could be read before this run stopped, and cannot now: no text at all"):
        Lane(stream, 0, lane.state())
    items[0] = Sample("lm", "x" * 10)
    with pytest.raises(UserError, match="and cannot now: it has 12 tokens, of which 64 had been used"):
        Lane(stream, 0, lane.state())


def test_lanes_seeds_and_phases_differ() -> None:
    items = [Sample("t2i", "abc", image=picture())]
    noises = set()
    for seed, phase, index in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)):
        stream = Stream(seed, phase, 2, 64, 1.0, [Listed("a", items)], [0], [1.0], BUILDER)
        noises.add(Lane(stream, index).next_row().drawn[0].noise.tobytes())
    assert len(noises) == 4

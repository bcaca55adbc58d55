"""Headers of safetensors files: what the format's own reader accepts is read, anything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from smoe_cli.errors import UserError
from smoe_cli.families.header import Entry, read_header

DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "U8": np.uint8}
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
TENSORS = st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(st.sampled_from(sorted(DTYPES)), SHAPES), max_size=4)
shared_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def saved(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    return save({name: np.zeros(shape, DTYPES[dtype]) for name, (dtype, shape) in tensors.items() if name != "__metadata__"})


def written(path: Path, header: object, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


@shared_folder
@given(tensors=TENSORS)
def test_entries_are_what_was_saved(tmp_path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved(tensors))
    entries = read_header(path)
    tensors.pop("__metadata__", None)
    assert {name: (entry.dtype, entry.shape) for name, entry in entries.items()} == tensors


def test_bytes_lie_where_the_entry_says(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors: dict[str, np.ndarray] = {
        "one": np.arange(6, dtype=np.float32).reshape(2, 3),
        "two": np.arange(3, dtype=np.float16),
    }
    path.write_bytes(save(tensors))
    content = path.read_bytes()
    for name, entry in read_header(path).items():
        assert content[entry.start : entry.stop] == tensors[name].tobytes()
        assert entry.file == "a.safetensors"


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = saved({"a": ("F32", (2, 3)), "b": ("F16", (4,)), "c": ("U8", (1,))})
    path = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.safetensors") as caught:
            read_header(path)
        assert "copied to its end" in str(caught.value)
    path.write_bytes(whole)
    assert len(read_header(path)) == 3


@shared_folder
@given(tensors=TENSORS.filter(bool), data=st.data())
def test_any_file_cut_anywhere_or_with_a_tail_is_refused(tmp_path: Path, tensors: dict, data: st.DataObject) -> None:
    whole = saved(tensors)
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UserError):
        read_header(path)
    path.write_bytes(whole + data.draw(st.binary(min_size=1, max_size=3)))
    with pytest.raises(UserError, match="its header describes"):
        read_header(path)


@shared_folder
@given(tensors=TENSORS, data=st.data())
def test_a_changed_header_is_read_or_refused_never_a_crash(tmp_path: Path, tensors: dict, data: st.DataObject) -> None:
    """And what the format's own reader refuses, this one does."""
    whole = bytearray(saved(tensors))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole)
    try:
        with safe_open(path, framework="np") as file:
            theirs = set(file.keys())
    except SafetensorError:
        theirs = None
    try:
        ours = set(read_header(path))
    except UserError:
        return
    if theirs is not None:
        assert ours == theirs


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"", b""),
        (b"garbage!", b""),
        (b"\xff\xfe", b""),
        (b"[" * 100_000, b""),
        ([], b""),
        ({"a": 1}, b""),
        ({"a": {"dtype": "F32", "shape": [1]}}, b""),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"0123"),
        ({"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}}, b"0123"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"0123"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}, b""),
        ({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, b"0123"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"0123"),
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"01"),  # a gap
        (  # an overlap
            {
                "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
            },
            b"012",
        ),
        ({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 1e9]}}, b"01"),
    ],
    ids=str,
)
def test_headers_that_make_no_sense(tmp_path: Path, header: object, data: bytes) -> None:
    path = written(tmp_path / "odd.safetensors", header, data)
    with pytest.raises(UserError, match=r"odd\.safetensors: its header cannot be read"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"abc", (1 << 60).to_bytes(8, "little"), b"PK\x03\x04" + b"\x00" * 100])
def test_files_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.safetensors"):
        read_header(path)


def test_an_empty_header_describes_no_bytes(tmp_path: Path) -> None:
    assert read_header(written(tmp_path / "empty.safetensors", {})) == {}
    with pytest.raises(UserError, match="has 11 bytes, its header describes 10"):
        read_header(written(tmp_path / "tail.safetensors", {}, b"0"))


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_header(tmp_path)


def test_types_that_are_newer_than_this_program_have_a_place_too(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}
    path = written(tmp_path / "f4.safetensors", header, b"01")
    base = path.stat().st_size - 2
    assert read_header(path) == {"a": Entry("F4", (4,), "f4.safetensors", base, base + 2)}

"""Opening a checkpoint: everything that can be wrong with its files is an error that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from smoe_cli.errors import UserError
from smoe_cli.families import open_checkpoint
from smoe_cli.families.checkpoint import INDEX, same_bytes
from tests.families import files
from tests.families.conftest import Written
from tests.families.tiny import write_checkpoint

SECOND = "model-00002-of-00003.safetensors"


@pytest.fixture
def sharded(written: Written, tmp_path: Path) -> Path:
    """A checkpoint in three files, free to be damaged."""
    return files.changed(written("qwen3_moe"), tmp_path / "sharded", lambda tensors, config: None, shards=3)


@pytest.fixture
def single(written: Written, tmp_path: Path) -> Path:
    """A checkpoint in one file, free to be damaged."""
    return Path(shutil.copytree(written("qwen3_moe"), tmp_path / "single"))


def refused(folder: Path, *words: str, help: str = "") -> None:
    with pytest.raises(UserError) as caught:
        open_checkpoint(str(folder))
    assert caught.value.exit_code == 2
    for word in words:
        assert word in caught.value.message
    assert help in (caught.value.help or "")


def test_every_tensor_of_every_file(sharded: Path, written: Written) -> None:
    tensors, config = files.read(written("qwen3_moe"))
    checkpoint = open_checkpoint(str(sharded))
    assert checkpoint.config == config
    assert {name: entry.shape for name, entry in checkpoint.entries.items()} == {n: t.shape for n, t in tensors.items()}
    assert len(checkpoint.files) == 3
    for name, entry in checkpoint.entries.items():
        assert name in load_file(sharded / entry.file)


def test_the_hash_tells_checkpoints_apart(sharded: Path, single: Path) -> None:
    """It is one of config, names and shapes: how the tensors are spread over files does not matter."""
    assert open_checkpoint(str(single)).sha256 == open_checkpoint(str(sharded)).sha256
    before = open_checkpoint(str(single)).sha256
    config = json.loads((single / "config.json").read_text())
    (single / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1.0}))
    assert open_checkpoint(str(single)).sha256 != before


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such file"),
        (b"", "not readable as JSON"),
        (b'{"model_type": "qwen3_moe"', "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[]", "not a JSON object"),
        (b'{"text_config": 3}', "`text_config` should be an object"),
        (b'{"vision_config": [1]}', "`vision_config` should be an object"),
    ],
    ids=["missing", "empty", "cut off", "not text", "too deep", "list", "text_config", "vision_config"],
)
@pytest.mark.parametrize("file", ["config.json"])
def test_config(single: Path, file: str, content: bytes | None, word: str) -> None:
    (single / file).unlink()
    if content is not None:
        (single / file).write_bytes(content)
    refused(single, str(single / file), word)


def test_quantised(single: Path) -> None:
    config = json.loads((single / "config.json").read_text())
    (single / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    refused(single, "config.json", "quantised (fp8)", help="BF16")
    (single / "config.json").write_text(json.dumps({**config, "quantization_config": None}))
    open_checkpoint(str(single))


def test_no_weights(single: Path) -> None:
    (single / "model.safetensors").unlink()
    refused(single, str(single), "no weights", help="model.safetensors")
    (single / "pytorch_model.bin").touch()
    refused(single, "no weights in safetensors files", help="pytorch_model.bin; load it with transformers")


def test_an_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, "config.json: no such file")


def test_a_shard_is_missing(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    refused(sharded, SECOND, "missing, although", INDEX, help="copy it again")


def test_the_index_lists_what_the_file_lacks(sharded: Path) -> None:
    tensors = load_file(sharded / SECOND)
    lost = sorted(tensors)[:5]
    save_file({name: tensor for name, tensor in tensors.items() if name not in lost}, sharded / SECOND)
    refused(sharded, SECOND, f"lacks `{lost[0]}`", "and 2 more", INDEX)


def test_the_file_holds_what_the_index_does_not_list(sharded: Path) -> None:
    save_file({**load_file(sharded / SECOND), "stray": np.zeros(1, np.float32)}, sharded / SECOND)
    refused(sharded, SECOND, "holds `stray`", INDEX)


def test_both_an_index_and_a_single_file(sharded: Path, single: Path) -> None:
    shutil.copy(single / "model.safetensors", sharded)
    refused(sharded, "both", help="remove")


@pytest.mark.parametrize(
    "index", [b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b'{"weight_map": {"a": "../b"}}']
)
def test_index(sharded: Path, index: bytes) -> None:
    (sharded / INDEX).write_bytes(index)
    refused(sharded, INDEX)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file(single: Path, sharded: Path, kept: int) -> None:
    for path in (single / "model.safetensors", sharded / SECOND):
        path.write_bytes(path.read_bytes()[:kept])
        refused(path.parent, str(path), help="copied to its end")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "U8", "I8", "F64", "I32", "F4"])
def test_types_that_are_not_weights(single: Path, dtype: str) -> None:
    size = {"F64": 64, "I32": 32, "F4": 4}.get(dtype, 8)
    header = {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}}
    raw = json.dumps(header).encode()
    (single / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
    refused(single, "model.safetensors", f"`a` has type {dtype}", help="BF16")


def test_integer_buffers_are_no_mistake(single: Path) -> None:
    """Older vision encoders hold `position_ids`."""
    tensors = load_file(single / "model.safetensors")
    save_file({**tensors, "vision_model.embeddings.position_ids": np.arange(4)}, single / "model.safetensors")
    assert open_checkpoint(str(single)).entries["vision_model.embeddings.position_ids"].dtype == "I64"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda a: a, True),
        (lambda a: a + (np.arange(a.size).reshape(a.shape) == a.size - 1), False),
        (lambda a: a.reshape(-1), False),
        (lambda a: a.astype(np.float16), False),
    ],
    ids=["equal", "last value", "shape", "type"],
)
def test_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray], same: bool
) -> None:
    monkeypatch.setattr("smoe_cli.families.checkpoint.CHUNK", 7)  # many pieces, the last one shorter
    one = np.arange(12, dtype=np.float32).reshape(3, 4)
    folder = files.write(tmp_path / "two", {"a": one, "b": change(one).astype(change(one).dtype)}, {}, shards=2)
    assert same_bytes(open_checkpoint(str(folder)), "a", "b") == same


def test_shards_change_neither_hash_and_weights_only_the_sample(tmp_path: Path) -> None:
    one, cut, other = tmp_path / "one", tmp_path / "cut", tmp_path / "other"
    write_checkpoint("qwen3_moe", one)
    write_checkpoint("qwen3_moe", cut, shards="40KB")
    write_checkpoint("qwen3_moe", other, seed=1)
    whole, parts, changed = (open_checkpoint(str(folder)) for folder in (one, cut, other))
    assert len(parts.files) > 1
    assert whole.sha256 == parts.sha256 == changed.sha256
    assert whole.sample() == parts.sample() != changed.sample()

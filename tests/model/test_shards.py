"""Files written one tensor at a time are those that safetensors writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from smoe_cli.model.shards import CODES, Entry, ShardWriter, split


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "b.weight": torch.randn(4, 6, 2),
        "a.half": torch.randn(5, 3).to(torch.bfloat16),
        "é": torch.randn(3).to(torch.float16),
        "a.weight": torch.randn(3, 1),
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
    }


def entries(own: dict[str, torch.Tensor]) -> list[Entry]:
    return [Entry(name, CODES[tensor.dtype], tuple(tensor.shape)) for name, tensor in own.items()]


def test_same_bytes_as_safetensors(tmp_path: Path) -> None:
    own = tensors()
    writer = ShardWriter(tmp_path, split(entries(own)))
    for name in reversed(own):
        if own[name].ndim == 3:
            for row in own[name]:
                writer.write(name, row[None])
        else:
            writer.write(name, own[name])
    writer.close()
    save_file(own, tmp_path / "reference", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "reference").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "reference"]


def test_shards_and_their_index(tmp_path: Path) -> None:
    own = tensors()
    files = split(entries(own), 200)
    assert all(sum(entry.nbytes for entry in shard) <= 200 or len(shard) == 1 for shard in files.values())
    writer = ShardWriter(tmp_path, files)
    for name, tensor in own.items():
        writer.write(name, tensor)
    writer.close()
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"] == {
        "total_parameters": sum(t.numel() for t in own.values()),
        "total_size": sum(t.nbytes for t in own.values()),
    }
    read = {}
    for file in files:
        shard = load_file(tmp_path / file)
        assert all(index["weight_map"][name] == file for name in shard)
        read |= shard
    assert read.keys() == own.keys() == index["weight_map"].keys()
    assert all(torch.equal(read[name], own[name]) and read[name].dtype == own[name].dtype for name in own)


def test_converts_to_the_announced_type(tmp_path: Path) -> None:
    value = torch.randn(4, 4)
    writer = ShardWriter(tmp_path, split([Entry("x", "BF16", (4, 4))]))
    writer.write("x", value)
    writer.close()
    assert torch.equal(load_file(tmp_path / "model.safetensors")["x"], value.to(torch.bfloat16))


@pytest.mark.parametrize("part", [torch.zeros(3, 2), torch.zeros(2, 3), torch.zeros(5, 2)])
def test_what_was_not_announced_is_refused(tmp_path: Path, part: torch.Tensor) -> None:
    writer = ShardWriter(tmp_path, split([Entry("x", "F32", (4, 2))]))
    writer.write("x", torch.zeros(2, 2))
    with pytest.raises(ValueError, match="does not fit"):
        writer.write("x", part)


def test_forgotten_rows(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, split([Entry("x", "F32", (4, 2))]))
    writer.write("x", torch.zeros(2, 2))
    with pytest.raises(ValueError, match="not written to the end"):
        writer.close()

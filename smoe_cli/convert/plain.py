"""Writing a plain checkpoint of a family, one tensor of its files at a time, from the tensors of a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from smoe_cli.convert.assembly import Plain
from smoe_cli.convert.options import Options
from smoe_cli.convert.progress import bar
from smoe_cli.convert.reading import Reader
from smoe_cli.convert.verify import check_files
from smoe_cli.families import Checkpoint, Slot
from smoe_cli.families.backbone import Backbone
from smoe_cli.families.checkpoint import INDEX
from smoe_cli.model.shards import MAX_SHARD, Entry, ShardWriter, common, split

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Written:
    """The weights of a checkpoint: {file: its tensors}, and its headers as they were read back."""

    files: dict[str, list[Entry]]
    checkpoint: Checkpoint

    @property
    def parameters(self) -> int:
        """How many."""
        return sum(entry.numel for entries in self.files.values() for entry in entries)

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return sum(entry.nbytes for entries in self.files.values() for entry in entries)

    @property
    def dtype(self) -> str:
        """The type of most of the weights, as in a safetensors header."""
        return common(entry for entries in self.files.values() for entry in entries)


def write_plain(
    work: Path, reader: Reader, backbone: Backbone, assembly: Mapping[str, Plain], options: Options, index: Path | None = None
) -> Written:
    """Write the weights into the folder `work`, and read them back. config.json is already there.

    index: names the files that the tensors go to, where it fits and no size is asked for. Raises Failure when what is read back
    is not what was written.
    """
    shapes = {name: plain.shape for name, plain in assembly.items()}
    layout = backbone.layout_of(shapes)
    slots = dict(layout.disk)
    wanted = _read_index(index) if options.max_shard is None else None
    if wanted and backbone.tied and HEAD in wanted and HEAD not in slots:
        embedding = f"{backbone.anatomy.decoder}.embed_tokens.weight"
        slots[HEAD] = [Slot(HEAD, embedding)]  # the source holds it twice
    entries = {disk: _entry(disk, parts, assembly, reader, backbone, options.dtype) for disk, parts in slots.items()}
    files = _assigned(entries, wanted) or split(entries.values(), options.max_shard or MAX_SHARD)
    total = sum(entry.nbytes for entry in entries.values())
    writer = ShardWriter(work, files)
    with bar("writing", total, options.progress) as advance:
        for file in files.values():
            for entry in file:
                advance(writer.write(entry.name, _value(slots[entry.name], assembly, reader)))
    writer.close()
    if index is not None and len(files) > 1 and wanted == {entry.name: file for file in files for entry in files[file]}:
        (work / INDEX).write_bytes(index.read_bytes())
    with bar("checking", total, options.progress) as advance:
        return Written(files, check_files(work, files, writer.digests, advance))


def _read_index(index: Path | None) -> dict[str, str] | None:
    """{name on disk: file} of the checkpoint that the model was made from."""
    return None if index is None else dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])


def _assigned(entries: Mapping[str, Entry], wanted: Mapping[str, str] | None) -> dict[str, list[Entry]] | None:
    """The files of an index, if it names a file for every tensor."""
    if wanted is None or not entries.keys() <= wanted.keys():
        return None
    files: dict[str, list[Entry]] = {}
    for name, entry in entries.items():
        files.setdefault(wanted[name], []).append(entry)
    return dict(sorted(files.items()))


def _entry(
    disk: str, slots: list[Slot], assembly: Mapping[str, Plain], reader: Reader, backbone: Backbone, dtype: str | None
) -> Entry:
    shapes = [tuple(slot.to_disk(torch.empty(assembly[slot.name].shape, device="meta")).shape) for slot in slots]
    rows = sum(shape[0] for shape in shapes) if len(shapes) > 1 else 0
    shape = (rows, *shapes[0][1:]) if rows else shapes[0]
    own = reader.dtype(assembly[slots[0].name])
    fixed = backbone.part(slots[0].name).kind == "bias"  # transformers keeps selection biases in the type they have
    return Entry(disk, own if dtype is None or fixed else dtype, shape)


def _value(slots: list[Slot], assembly: Mapping[str, Plain], reader: Reader) -> Tensor:
    parts = [reader.on_disk(slot, assembly[slot.name]) for slot in slots]
    return parts[0] if len(parts) == 1 else torch.cat(parts)

"""From names on disk to names in memory and back.

transformers keeps the experts of a layer in two stacked tensors, `gate_up_proj` (E, 2f, d) and `down_proj` (E, d, f). Files
hold them stacked, or stacked with the last two dimensions exchanged, or one matrix an expert and projection. A layout can be
made from either side; both give the same slots.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smoe_cli.errors import UserError
from smoe_cli.families.anatomy import Anatomy
from smoe_cli.families.names import disk_name, memory_names, published
from smoe_cli.families.parts import part_of

INCOMPLETE = "the checkpoint is incomplete; copy it again"
Shapes = Mapping[str, tuple[int, ...]]
HALVES: dict[str, Literal[0, 1]] = {"gate_proj": 0, "up_proj": 1}
_STACKED = re.compile(r".+\.(gate_up_proj|down_proj)")
_SINGLE = re.compile(r"(.+)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


@dataclass(frozen=True)
class Slot:
    """A tensor on disk, and the place in memory that it fills.

    name: tensor in memory. expert: index of its first dimension, or None for all of it. half: 0 = gate, 1 = up, the halves of
    the second dimension of `gate_up_proj`; None for all of it. swap: its last two dimensions are exchanged on disk. row: it is
    this row of the tensor on disk, whose other rows are in other slots; None for all of it.
    """

    disk: str
    name: str
    expert: int | None = None
    half: Literal[0, 1] | None = None
    swap: bool = False
    row: int | None = None

    def place(self, memory: Any) -> Any:
        """The part of the tensor in memory (torch or numpy) that this slot fills, as a view."""
        part = memory if self.expert is None else memory[self.expert]
        if self.half is None:
            return part
        rows = part.shape[0] // 2
        return part[self.half * rows : (self.half + 1) * rows]

    def from_disk(self, disk: Any) -> Any:
        """What belongs in `place`, as a view of the tensor on disk."""
        part = disk if self.row is None else disk[self.row : self.row + 1]
        return part.swapaxes(-1, -2) if self.swap else part

    def to_disk(self, memory: Any) -> Any:
        """The tensor on disk, or with `row` that row of it (1, …), as a view of the tensor in memory."""
        part = self.place(memory)
        return part.swapaxes(-1, -2) if self.swap else part


class Layout:
    """The slots of one checkpoint.

    slots: {name in memory: what it is put together from}. disk: {name on disk: the slots it fills}; if several, they are its
    rows in order. stacked: the experts of a layer lie in one tensor a projection; swap: its last two dimensions exchanged. hub:
    names are those of the family's authors, where transformers writes others.
    """

    def __init__(self, slots: Iterable[Slot], stacked: bool = False, swap: bool = False, hub: bool = False):
        self.stacked, self.swap, self.hub = stacked, swap, hub
        self.slots: dict[str, list[Slot]] = {}
        self.disk: dict[str, list[Slot]] = {}
        for slot in slots:
            self.slots.setdefault(slot.name, []).append(slot)
            self.disk.setdefault(slot.disk, []).append(slot)

    @classmethod
    def of_files(cls, shapes: Shapes, anatomy: Anatomy, experts: int, width: int) -> Layout:
        """From names and shapes in files. experts: routed ones of a pool, needed with several pools;
        width: of the residual stream."""
        stacks = [
            shape if name.endswith("down_proj") else (shape[0], shape[2], shape[1])
            for name, shape in shapes.items()
            if len(shape) == 3 and _STACKED.fullmatch(name) and part_of(name, anatomy).kind == "experts"
        ]
        # now (E, d, f) or its exchange; where d = f for one projection, the other, of another f, tells
        swap = any(shape[1] != width and shape[2] == width for shape in stacks)
        hub = published(shapes, anatomy)
        slots = (slot for name in shapes for slot in _of_file(name, anatomy, experts, swap, hub))
        return cls(slots, bool(stacks), swap, hub)

    @classmethod
    def of_memory(cls, tensors: Shapes, anatomy: Anatomy, stacked: bool, swap: bool, hub: bool = False) -> Layout:
        """From names and shapes in memory."""
        slots = (slot for name in tensors for slot in _of_tensor(name, tensors, anatomy, stacked, swap, hub))
        return cls(slots, stacked, swap, hub)

    def shape(self, name: str, shapes: Shapes) -> tuple[int, ...]:
        """Shape in memory of a tensor. shapes: on disk. Raises UserError when experts are missing or differ in shape."""
        slots = self.slots[name]
        first = slots[0]
        if len(slots) > 1 and any(slot.expert is None for slot in slots):
            raise UserError(
                f"`{slots[0].disk}` and `{slots[1].disk}` are the same tensor", "the files of two checkpoints are mixed"
            )
        if first.expert is None:
            shape = shapes[first.disk]
            if first.row is not None:
                if shape[:1] != (len(self.disk[first.disk]),):
                    raise UserError(f"`{first.disk}` has shape {shape}, expected {len(self.disk[first.disk])} rows", INCOMPLETE)
                shape = (1, *shape[1:])
            if not first.swap:
                return shape
            if len(shape) < 2:
                raise UserError(f"`{first.disk}` has shape {shape}, expected a matrix", INCOMPLETE)
            return (*shape[:-2], shape[-1], shape[-2])
        experts = {slot.expert for slot in slots}
        if experts != set(range(len(experts))):
            gap = min(set(range(len(experts) + 1)) - experts)
            raise UserError(f"the checkpoint has no expert {gap} of `{name}`", INCOMPLETE)
        halves = {0, 1} if name.endswith("gate_up_proj") else {None}
        missing = {(e, h) for e in experts for h in halves} - {(slot.expert, slot.half) for slot in slots}
        if missing:
            expert, half = min(missing)
            which = {0: "gate_proj", 1: "up_proj", None: "down_proj"}[half]
            raise UserError(f"the checkpoint has no `{which}` of expert {expert} of `{name}`", INCOMPLETE)
        for slot in slots:
            if shapes[slot.disk] != shapes[first.disk] or len(shapes[slot.disk]) != 2:
                raise UserError(
                    f"`{slot.disk}` has shape {shapes[slot.disk]}, `{first.disk}` {shapes[first.disk]}", "they should be equal"
                )
        rows, columns = shapes[first.disk]
        return (len(experts), rows * len(halves), columns)


def _of_file(disk: str, anatomy: Anatomy, experts: int, swap: bool, hub: bool) -> Iterator[Slot]:
    match = _SINGLE.fullmatch(disk)
    if match and match[1].endswith(f".{anatomy.experts}"):
        # files number the experts of all pools in one row and name no pool
        [(path, _)] = memory_names(match[1], anatomy, hub)
        pool, expert = divmod(int(match[2]), experts) if experts else (0, int(match[2]))
        if pool < len(anatomy.pools):
            inside = ".".join(filter(None, (anatomy.pools[pool], anatomy.experts)))
            stack = "down_proj" if match[3] == "down_proj" else "gate_up_proj"
            name = f"{path.removesuffix(anatomy.experts)}{inside}.{stack}"
            yield Slot(disk, name, expert, HALVES.get(match[3]))
            return
    for name, rule in memory_names(disk, anatomy, hub):
        stacked = swap and _STACKED.fullmatch(name) is not None and part_of(name, anatomy).kind == "experts"
        yield Slot(disk, name, swap=rule.swap or stacked, row=rule.row)


def _of_tensor(name: str, tensors: Shapes, anatomy: Anatomy, stacked: bool, swap: bool, hub: bool) -> Iterator[Slot]:
    part = part_of(name, anatomy)
    if part.kind != "experts" or stacked:
        disk, rule = disk_name(name, anatomy, hub)
        yield Slot(disk, name, swap=rule.swap or (swap and part.kind == "experts"), row=rule.row)
        return
    pool = anatomy.pools[part.pool]
    inside = ".".join(filter(None, (pool, anatomy.experts, part.tail)))
    path, _ = disk_name(f"{name.removesuffix(inside)}{anatomy.experts}", anatomy, hub)
    before = sum(tensors[name.replace(f".{pool}.", f".{other}.")][0] for other in anatomy.pools[: part.pool])
    for expert in range(tensors[name][0]):
        for proj in HALVES if part.tail == "gate_up_proj" else ("down_proj",):
            yield Slot(f"{path}.{before + expert}.{proj}.weight", name, expert, HALVES.get(proj))

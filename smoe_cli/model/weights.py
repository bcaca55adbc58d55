"""Filling a built model with a checkpoint's weights: slices of safetensors files, straight to where the plan says.

transformers' own loader is not used: it knows nothing of groups, and gives a missing tensor a random value. Here everything is
accounted for in both directions. Memory: the model, and one stacked tensor (two where copies are scaled or get noise).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from smoe_cli.errors import Failure, UserError
from smoe_cli.families import Backbone, Checkpoint, Slot, open_checkpoint
from smoe_cli.plan import Plan
from smoe_cli.plan.profile import OF_A_MODEL_FOLDER
from smoe_cli.plan.types import Origin
from smoe_cli.recipe.models import Recipe


class Files:
    """A checkpoint's files, mapped: memory holds what is asked for.

    A context manager: files are opened when they are first needed, and closed at its end.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self._stack, self._files = ExitStack(), dict[str, Any]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def read(self, disk: str, index: Any = ...) -> Tensor:
        """A tensor under its name in the files, or `tensor[index]`. Raises UserError naming file and tensor when it cannot."""
        file = self.checkpoint.entries[disk].file
        path = self.checkpoint.folder / file
        try:
            if file not in self._files:
                self._files[file] = self._stack.enter_context(safe_open(path, framework="pt"))
            return self._files[file].get_slice(disk)[index]
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: `{disk}` cannot be read ({error})", "the file is damaged; copy it again") from error


class Reader(Files):
    """The tensors of a plain model, named and shaped as transformers holds them in memory, from a checkpoint's files."""

    def __init__(self, checkpoint: Checkpoint, backbone: Backbone):
        super().__init__(checkpoint)
        self.backbone = backbone
        self._stacks: dict[str, dict[int | None, list[Slot]]] = {}

    def tensor(self, name: str, rows: Sequence[int] | None = None) -> Tensor:
        """A tensor, or these indices of its first dimension, float32. Raises UserError when a file cannot be read."""
        slots, shape = self.backbone.layout.slots[name], self.backbone.tensors[name]
        if slots[0].expert is None and (rows is None or len(shape) < 3):
            value = slots[0].from_disk(self.read(slots[0].disk))
            return (value if rows is None else value[list(rows)]).float()
        matrices = self._matrices(name)
        rows = range(shape[0]) if rows is None else rows
        out = torch.empty((len(rows), *shape[1:]))
        for place, row in zip(out, rows, strict=True):
            if stack := matrices.get(None):
                value = self.read(stack[0].disk, row)
                place.copy_(value.swapaxes(-1, -2) if stack[0].swap else value)
            for slot in matrices.get(row, ()):
                replace(slot, expert=None).place(place).copy_(self.read(slot.disk))
        return out

    def _matrices(self, name: str) -> dict[int | None, list[Slot]]:
        """{expert: its matrices on disk}; None: of all experts. Sorted once a tensor, not once an expert that is read."""
        if name not in self._stacks:
            matrices = self._stacks[name] = {}
            for slot in self.backbone.layout.slots[name]:
                matrices.setdefault(slot.expert, []).append(slot)
        return self._stacks[name]

    def chunk(self, name: str, start: int, end: int) -> Tensor:
        """The indices from `start` up to `end` of the first dimension, float32; of a large matrix only those are read."""
        slot = self.backbone.layout.slots[name][0]
        if len(self.backbone.tensors[name]) < 3 and slot.row is None and not slot.swap:
            return self.read(slot.disk, slice(start, end)).float()
        return self.tensor(name, range(start, end))


def read_origin(reader: Reader, origin: Origin, seed: int, name: str) -> Tensor:
    """The first value of the tensor `name`, float32. Noise depends on the recipe's seed and the name alone.

    Raises UserError naming the tensor when a value is not finite.
    """
    single = len(origin.names) == 1 and origin.axis == 0
    parts = [reader.tensor(n, origin.rows if single else None) for n in origin.names]
    value = parts[0] if len(parts) == 1 else torch.cat(parts, dim=origin.axis)
    return derive(finite(value, reader, origin), origin, seed, name, picked=single)


def finite(value: Tensor, reader: Reader, origin: Origin) -> Tensor:
    """`value`, which was read for `origin`. Raises UserError naming the tensors when it is not finite."""
    if not torch.isfinite(value).all():
        names = ", ".join(f"`{name}`" for name in origin.names)
        raise UserError(f"{reader.checkpoint.folder}: {names} holds values that are not finite", "the checkpoint is damaged")
    return value


def derive(value: Tensor, origin: Origin, seed: int, name: str, picked: bool = False) -> Tensor:
    """What an origin makes of a tensor: rows (unless `picked` already), scale, copies, noise."""
    if origin.rows is not None and not picked:
        value = value.index_select(origin.axis, torch.tensor(origin.rows, device=value.device))
    if origin.scale != 1.0:
        value = value * origin.scale
    if origin.copies is not None:
        value = value.expand(origin.copies, *value.shape)
    if origin.noise:
        noise = torch.randn(value.shape, generator=_generator(seed, name))
        value = value + noise.mul_(origin.noise * value.std(correction=0))
    return value


def draw(shape: Sequence[int], std: float, seed: int, name: str) -> Tensor:
    """A fresh normal tensor, a function of the recipe's seed and the tensor's name alone."""
    return torch.randn(tuple(shape), generator=_generator(seed, name)).mul_(std)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """{name: tensor} of all that a file holds of a model: every parameter once, and buffers that are part of its state.

    A tied output head is the embedding and has no name of its own.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                tensors[f"{prefix}.{name}" if prefix else name] = buffer
    return tensors


def open_backbone(recipe: Recipe, plan: Plan) -> Checkpoint:
    """The checkpoint that the recipe names. Raises UserError when it is not the one that the plan was made from, or that the
    profile was counted on (the plan reads headers only and cannot tell)."""
    location = recipe.model.backbone.checkpoint
    assert location is not None
    checkpoint = open_checkpoint(*location)
    if checkpoint.sha256 != plan.source.backbone.sha256:
        raise UserError(f"{checkpoint.folder}: not the checkpoint that the plan was made from", "start again with this one")
    counted = plan.source.profile.weights if plan.source.profile else None
    if counted is not None and not counted.startswith(OF_A_MODEL_FOLDER) and counted != checkpoint.sample():
        raise UserError(
            f"{recipe.model.profile}: counted on other weights than those of {checkpoint.folder}",
            f"`smoe profile {checkpoint.folder} --data … --out {recipe.model.profile}`",
        )
    return checkpoint


def load_backbone(model: nn.Module, recipe: Recipe, plan: Plan, checkpoint: Checkpoint | None = None) -> None:
    """Fill every tensor of `model` that has an origin. The model has been compared with its plan.

    checkpoint: default, the one that the recipe names. Raises UserError naming a tensor that cannot be read, is not finite, or
    would be left over.
    """
    checkpoint = checkpoint or open_backbone(recipe, plan)
    _check_consumed(recipe, plan)
    own = saved_tensors(model)
    with Reader(checkpoint, plan.source.backbone) as reader, torch.no_grad():
        for tensor in plan.tensors:
            if tensor.origin is not None and tensor.origin.names:
                own[tensor.name].copy_(read_origin(reader, tensor.origin, recipe.seed, tensor.name))


def _check_consumed(recipe: Recipe, plan: Plan) -> None:
    """Every tensor of the checkpoint, and every expert of each, goes somewhere, or is left out on purpose."""
    backbone = plan.source.backbone
    left: dict[str, set[int]] = {}
    for origin in (t.origin for t in plan.tensors if t.origin is not None):
        for name in origin.names:
            everything = range(backbone.tensors[name][origin.axis])
            left.setdefault(name, set(everything)).difference_update(everything if origin.rows is None else origin.rows)
    dropped = ("shared", "shared_gate") if recipe.model.shared == "none" else ()
    for name in backbone.tensors:
        if name not in left and backbone.part(name).kind not in dropped:
            raise UserError(f"the checkpoint's `{name}` has no place in the model", "it would be left out silently")
        if left.get(name):
            raise Failure(
                f"experts {sorted(left[name])} of `{name}` have no place in the model",
                "this is a bug in smoe; please report it with the recipe",
            )

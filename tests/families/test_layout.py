"""Names on disk and in memory: what transformers reads from a file is what the slots say, and they lead back to the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from smoe_cli.families import ANATOMIES, Backbone, Layout, anatomy_of, open_checkpoint, read_backbone
from smoe_cli.families.layout import Shapes
from tests.families import files
from tests.families.conftest import Written
from tests.families.files import Config, Tensors
from tests.families.tiny import DENSE_FAMILIES, FAMILIES, MULTIMODAL_FAMILIES


def to_memory(layout: Layout, shapes: Shapes, disk: Tensors, names: list[str] | None = None) -> Tensors:
    """Tensors in memory, put together from those on disk; what no slot fills stays NaN."""
    memory = {name: np.full(shapes[name], np.nan, np.float32) for name in (shapes if names is None else names)}
    for name, tensor in memory.items():
        for slot in layout.slots[name]:
            slot.place(tensor)[:] = slot.from_disk(disk[slot.disk])
    return memory


def to_disk(layout: Layout, memory: Tensors) -> Tensors:
    """Tensors on disk, those whose every slot is in `memory`."""
    return {
        disk: np.concatenate([slot.to_disk(memory[slot.name]) for slot in slots])
        if len(slots) > 1
        else slots[0].to_disk(memory[slots[0].name])
        for disk, slots in layout.disk.items()
        if all(slot.name in memory for slot in slots)
    }


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert set(one) == set(other)
    for name in one:
        assert one[name].shape == other[name].shape, name
        assert np.array_equal(one[name], other[name]), name


def loaded(folder: Path, family: str) -> Tensors:
    """What transformers makes of a checkpoint: parameters and persistent buffers."""
    cls = AutoModelForImageTextToText if family in MULTIMODAL_FAMILIES else AutoModelForCausalLM
    model: PreTrainedModel = cls.from_pretrained(folder, dtype=torch.float32)
    state = model.state_dict()
    return {name: state[name].numpy() for name in read(folder).tensors}


def read(folder: Path) -> Backbone:
    return read_backbone(open_checkpoint(str(folder)))


@pytest.mark.parametrize("family", [*FAMILIES, *DENSE_FAMILIES])
def test_what_transformers_reads_and_back(written: Written, family: str) -> None:
    folder = written(family)
    backbone, (disk, _) = read(folder), files.read(folder)
    memory = to_memory(backbone.layout, backbone.tensors, disk)
    assert_equal(memory, loaded(folder, family))
    assert_equal(to_disk(backbone.layout, memory), disk)


def exchange(tensors: Tensors, _: Config) -> None:
    """Stacked experts as qwen3_vl_moe has them on the hub."""
    for name in tensors:
        if ".experts." in name:
            tensors[name] = tensors[name].swapaxes(1, 2)


def test_exchanged_stacks_are_read_as_transformers_reads_them(written: Written, tmp_path: Path) -> None:
    plain = written("qwen3_vl_moe")
    folder = files.changed(plain, tmp_path / "exchanged", exchange)
    backbone, (disk, _) = read(folder), files.read(folder)
    assert (backbone.stacked, backbone.swap) == (True, True)
    memory = to_memory(backbone.layout, backbone.tensors, disk)
    assert_equal(memory, loaded(folder, "qwen3_vl_moe"))
    assert_equal(memory, loaded(plain, "qwen3_vl_moe"))
    assert_equal(to_disk(backbone.layout, memory), disk)


def stack(tensors: Tensors, _: Config) -> None:
    """Experts in one tensor a projection, named as in memory."""
    experts = sorted(name for name in tensors if ".experts." in name)
    for prefix in {name[: name.index(".experts.") + 8] for name in experts}:
        count = sum(name.startswith(prefix) for name in experts) // 3
        gate, up, down = (
            np.stack([tensors.pop(f"{prefix}.{e}.{p}.weight") for e in range(count)])
            for p in ("gate_proj", "up_proj", "down_proj")
        )
        tensors[f"{prefix}.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        tensors[f"{prefix}.down_proj"] = down


@pytest.mark.parametrize("family", ["qwen2_moe", "glm4_moe", "qwen3_5_moe"])
def test_stacks_of_families_that_are_written_one_by_one(written: Written, tmp_path: Path, family: str) -> None:
    folder = files.changed(written(family), tmp_path / "stacked", stack)
    backbone, (disk, _) = read(folder), files.read(folder)
    assert (backbone.stacked, backbone.swap) == (True, False)
    memory = to_memory(backbone.layout, backbone.tensors, disk)
    assert_equal(memory, loaded(folder, family))
    assert_equal(to_disk(backbone.layout, memory), disk)


def publish(tensors: Tensors, _: Config) -> None:
    """Names of the vision encoder in the files that ERNIE's authors published."""
    for name in [name for name in tensors if name.startswith("model.vision_model.")]:
        tensors[name.removeprefix("model.")] = tensors.pop(name)


def test_names_of_the_authors_are_read_as_transformers_reads_them(written: Written, tmp_path: Path) -> None:
    plain = written("ernie4_5_vl_moe")
    folder = files.changed(plain, tmp_path / "published", publish)
    backbone, (disk, _) = read(folder), files.read(folder)
    assert (read(plain).hub, backbone.hub) == (False, True)
    again = Backbone.from_dict(backbone.to_dict())
    memory = to_memory(again.layout, backbone.tensors, disk)
    assert_equal(memory, loaded(folder, "ernie4_5_vl_moe"))
    assert_equal(memory, loaded(plain, "ernie4_5_vl_moe"))
    assert_equal(to_disk(again.layout, memory), disk)


@pytest.mark.parametrize(("width", "inner"), [(8, 4), (8, 8), (8, 6)])
def test_exchanged_stacks_with_a_square_projection(width: int, inner: int) -> None:
    """Where one projection is square (2f = d, or d = f), the other tells."""
    names = [f"model.layers.0.mlp.experts.{proj}" for proj in ("gate_up_proj", "down_proj")]
    shapes = dict(zip(names, [(3, 2 * inner, width), (3, width, inner)], strict=True))
    exchanged = {name: (e, b, a) for name, (e, a, b) in shapes.items()}
    anatomy = anatomy_of("qwen3_moe")
    assert not Layout.of_files(shapes, anatomy, 0, width).swap
    layout = Layout.of_files(exchanged, anatomy, 0, width)
    assert layout.swap
    assert {name: layout.shape(name, exchanged) for name in names} == shapes


@st.composite
def models(draw: st.DrawFn) -> tuple[str, dict[str, tuple[int, ...]], bool, bool]:
    """A family, names and shapes in memory of some of its decoder's tensors, and how its files hold the experts."""
    family = draw(st.sampled_from(sorted(ANATOMIES)))
    anatomy = anatomy_of(family)
    width, experts = draw(st.integers(2, 4)), draw(st.integers(1, 11))
    shapes: dict[str, tuple[int, ...]] = {f"{anatomy.decoder}.embed_tokens.weight": (5, width), "lm_head.weight": (5, width)}
    for layer in draw(st.sets(st.integers(0, 12), min_size=1, max_size=3)):
        prefix = f"{anatomy.decoder}.layers.{layer}"
        shapes[f"{prefix}.input_layernorm.weight"] = (width,)
        for pool in anatomy.pools:
            inner, path = draw(st.integers(1, 4)), ".".join(filter(None, (prefix, anatomy.block, pool)))
            shapes[f"{path}.{anatomy.router}.weight"] = (experts, width)
            shapes[f"{path}.{anatomy.experts}.gate_up_proj"] = (experts, 2 * inner, width)
            shapes[f"{path}.{anatomy.experts}.down_proj"] = (experts, width, inner)
            if anatomy.bias:
                rows = (1, experts) if len(anatomy.pools) > 1 else (experts,)
                shapes[f"{path}.{anatomy.router}.{anatomy.bias}"] = rows
        if anatomy.shared:
            shapes[f"{prefix}.{anatomy.block}.{anatomy.shared}.down_proj.weight"] = (width, 3)
    stacked = len(anatomy.pools) == 1 and draw(st.booleans())
    return family, shapes, stacked, stacked and draw(st.booleans())


@settings(deadline=None)
@given(models(), st.data())
def test_there_and_back_is_the_identity_for_any_part(model: tuple[str, Shapes, bool, bool], data: st.DataObject) -> None:
    """Memory → disk → memory, and disk → memory → disk for the tensors on disk that a subset of memory needs."""
    family, shapes, stacked, swap = model
    anatomy = anatomy_of(family)
    layout = Layout.of_memory(shapes, anatomy, stacked, swap)
    start = iter(range(1, 1 << 30))
    memory = {
        name: np.array([next(start) for _ in range(int(np.prod(shape)))], np.float32).reshape(shape)
        for name, shape in shapes.items()
    }
    disk = to_disk(layout, memory)
    assert sum(tensor.size for tensor in disk.values()) == sum(tensor.size for tensor in memory.values())
    assert_equal(to_memory(layout, shapes, disk), memory)

    on_disk = {name: tensor.shape for name, tensor in disk.items()}
    width = shapes["lm_head.weight"][1]
    experts = next(shape[0] for name, shape in shapes.items() if name.endswith("down_proj") and len(shape) == 3)
    again = Layout.of_files(on_disk, anatomy, experts if len(anatomy.pools) > 1 else 0, width)
    assert (again.stacked, again.swap) == (stacked, layout.swap and _visible(shapes))
    if again.swap == swap:
        assert {n: set(slots) for n, slots in again.slots.items()} == {n: set(slots) for n, slots in layout.slots.items()}
        assert {name: again.shape(name, on_disk) for name in again.slots} == shapes

    some = data.draw(st.lists(st.sampled_from(sorted(shapes)), unique=True))
    part = to_memory(layout, shapes, disk, some)
    assert_equal(part, {name: memory[name] for name in some})
    needed = {d for d, slots in layout.disk.items() if {slot.name for slot in slots} <= set(some)}
    assert_equal(to_disk(layout, part), {name: disk[name] for name in needed})


def _visible(shapes: Shapes) -> bool:
    """Whether an exchange changes any shape."""
    return any(len(shape) == 3 and shape[1] != shape[2] for shape in shapes.values())

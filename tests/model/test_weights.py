"""Reading a checkpoint: every way of laying it out gives the same values, and everything is accounted for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from smoe_cli.errors import UserError
from smoe_cli.families import open_checkpoint, read_backbone
from smoe_cli.model.backbone import build_backbone
from smoe_cli.model.build import build_model, check_against_plan
from smoe_cli.model.weights import Reader, load_backbone, read_origin, saved_tensors
from smoe_cli.plan import Origin, compile_plan
from tests.families.tiny import DENSE_FAMILIES, FAMILIES, plain_model, write_checkpoint
from tests.model.conftest import Checkpoints
from tests.model.pretrained import decoder, pretrained, split, upcycled

Change = Callable[[dict[str, Tensor]], None]


def rewritten(source: Path, folder: Path, change: Change) -> Path:
    """A copy of a checkpoint in one file, whose tensors have been changed."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def recipe_for(family: str, folder: Path) -> Any:
    if family in DENSE_FAMILIES:
        return upcycled(folder, [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 4}], {"experts": 4})
    return pretrained(folder, split(folder, list(range(8)) if family == "ernie4_5_vl_moe" else [0, 3, 4, 5]))


@pytest.mark.parametrize("family", [*FAMILIES, *DENSE_FAMILIES])
def test_every_tensor_is_filled(checkpoint: Checkpoints, family: str) -> None:
    """Built full of NaN; after loading no NaN is left, and buffers that no file holds were right from the start."""
    folder = checkpoint(family)
    recipe = recipe_for(family, folder)
    plan = compile_plan(recipe)
    holder = nn.Module()
    holder.backbone = build_backbone(recipe, plan)
    empty = saved_tensors(holder)
    fresh = {t.name for t in plan.tensors if t.origin is None or not t.origin.names}
    assert {t.name for t in plan.tensors} == empty.keys()
    assert all(bool(tensor.isnan().all()) == (name not in fresh) for name, tensor in empty.items())
    load_backbone(holder, recipe, plan)
    assert all(torch.isfinite(tensor).all() for tensor in saved_tensors(holder).values())
    derived = {n: b for n, b in plain_model(family).named_buffers() if not n.endswith("correction_bias")}
    buffers = dict(holder.backbone.named_buffers())
    assert derived
    assert all(torch.equal(buffers[name], buffer) for name, buffer in derived.items())
    assert all(tensor.dtype == torch.float32 for tensor in saved_tensors(holder).values())


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("qwen2_moe", "hidden_act", "x"),
        ("qwen2_moe", "attention_dropout", "x"),
        ("llama", "rope_parameters", {"rope_type": "x"}),
    ],
)
def test_a_config_that_transformers_refuses(
    checkpoint: Checkpoints, tmp_path: Path, family: str, key: str, value: object
) -> None:
    folder = tmp_path / "refused"
    shutil.copytree(checkpoint(family), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    recipe = recipe_for(family, folder)
    with pytest.raises(UserError, match=r"transformers cannot build it from its config\.json") as error:
        build_model(recipe, compile_plan(recipe))
    assert str(folder) in error.value.message


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3_moe", tmp_path / "tied", tie_word_embeddings=True)
    model, plan = decoder(pretrained(folder))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any("lm_head" in t.name for t in plan.tensors)


@pytest.mark.parametrize("shards", ["40KB", "5GB"])
@pytest.mark.parametrize("layout", ["single", "stacked", "swapped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layouts_on_disk_give_the_same_values(tmp_path: Path, layout: str, shards: str, dtype: torch.dtype) -> None:
    """One matrix an expert, all experts stacked, or stacked with the last two dimensions exchanged; one file or many."""
    model = plain_model("qwen3_moe").to(dtype)
    model.save_pretrained(tmp_path / "disk", max_shard_size=shards)
    expected = {n: p.detach().float() for n, p in model.named_parameters()}
    if layout != "single":
        memory = {n: p.detach().clone() for n, p in model.named_parameters()}
        if layout == "swapped":
            memory = {n: p.transpose(1, 2).contiguous() if p.ndim == 3 else p for n, p in memory.items()}
        for file in tmp_path.glob("disk/*.safetensors*"):
            file.unlink()
        save_file(memory, tmp_path / "disk" / "model.safetensors", metadata={"format": "pt"})
    opened = open_checkpoint(str(tmp_path / "disk"))
    with Reader(opened, read_backbone(opened)) as reader:
        assert set(reader.backbone.tensors) == set(expected)
        for name, value in expected.items():
            got = reader.tensor(name)
            assert got.dtype == torch.float32
            assert torch.equal(got, value), name
            rows = [len(value) - 1, 0, 0]
            assert torch.equal(reader.tensor(name, rows), value[rows]), name


def test_origins(checkpoint: Checkpoints) -> None:
    """Joined, picked, scaled, stacked."""
    opened = open_checkpoint(str(checkpoint("llama")))
    mlp = plain_model("llama").model.layers[1].mlp
    gate, up, down = (f"model.layers.1.mlp.{p}_proj.weight" for p in ("gate", "up", "down"))
    with Reader(opened, read_backbone(opened)) as reader, torch.no_grad():

        def read(**fields: Any) -> Tensor:
            return read_origin(reader, Origin(**fields), 0, "some.name")

        both = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        assert torch.equal(read(names=(gate, up)), both)
        assert torch.equal(read(names=(gate, up), copies=3), both.expand(3, -1, -1))
        assert torch.equal(read(names=(gate,), rows=(4, 2, 4), scale=0.5), mlp.gate_proj.weight[[4, 2, 4]] * 0.5)
        wide = torch.cat([mlp.down_proj.weight] * 2, dim=1)
        assert torch.equal(read(names=(down, down), axis=1), wide)
        assert torch.equal(read(names=(down,), axis=1, rows=(7, 7)), mlp.down_proj.weight[:, [7, 7]])
        noisy = read(names=(down,), noise=0.1)
        assert torch.equal(noisy, read(names=(down,), noise=0.1))
        assert not torch.equal(noisy, read_origin(reader, Origin(names=(down,), noise=0.1), 1, "some.name"))
        assert not torch.equal(noisy, read_origin(reader, Origin(names=(down,), noise=0.1), 0, "another.name"))


# ------------------------------------------------------------------------------------------------------------ errors


def lose(name: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return change


def put(name: str, value: Tensor) -> Change:
    return lambda tensors: tensors.update({name: value})


def build_from(folder: Path) -> None:
    recipe = pretrained(folder)
    build_model(recipe, compile_plan(recipe))


PREFIX = "model.layers.1"
BROKEN: dict[str, tuple[Change, str]] = {
    "a missing attention matrix": (
        lose(f"{PREFIX}.self_attn.o_proj.weight"),
        rf"`{PREFIX}.self_attn.o_proj.weight` is missing",
    ),
    "a missing norm": (lose("model.norm.weight"), "`model.norm.weight` is missing"),
    "a missing shared expert": (lose(f"{PREFIX}.mlp.shared_experts.up_proj.weight"), r"layers.1.mlp.shared_expert.up_proj"),
    "a missing selection bias": (lose(f"{PREFIX}.mlp.gate.e_score_correction_bias"), "layer 1: lacks its selection bias"),
    "a missing router": (lose(f"{PREFIX}.mlp.gate.weight"), "layer 1|layers"),
    "a missing expert": (lose(f"{PREFIX}.mlp.experts.5.up_proj.weight"), "expert 5"),
    "a missing head": (lose("lm_head.weight"), "lacks `lm_head.weight`"),
    "an extra tensor": (put("model.layers.1.mlp.fifth_wheel.weight", torch.ones(3)), "fifth_wheel"),
    "a wrong shape": (put("model.norm.weight", torch.ones(31)), r"`model.norm.weight` has shape \(31,\)"),
    "a wrong shape of an expert": (put(f"{PREFIX}.mlp.experts.5.up_proj.weight", torch.ones(13, 32)), "experts"),
    "another vocabulary": (put("model.embed_tokens.weight", torch.ones(299, 32)), "embed_tokens"),
    "a NaN": (put(f"{PREFIX}.mlp.experts.5.up_proj.weight", torch.full((12, 32), torch.nan)), "not finite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(checkpoint: Checkpoints, tmp_path: Path, case: str) -> None:
    change, message = BROKEN[case]
    folder = rewritten(checkpoint("glm4_moe"), tmp_path / "broken", change)
    with pytest.raises(UserError, match=message):
        build_from(folder)


def test_an_extra_tensor_of_a_dense_checkpoint_is_refused_by_name(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Inside a feed-forward, where the plan makes experts of what it knows."""
    folder = rewritten(checkpoint("llama"), tmp_path / "extra", put(f"{PREFIX}.mlp.fifth_wheel.weight", torch.ones(40, 32)))
    with pytest.raises(UserError, match="fifth_wheel"):
        decoder(recipe_for("llama", folder))


def test_a_checkpoint_that_changes_after_the_plan_is_refused(checkpoint: Checkpoints, tmp_path: Path) -> None:
    folder = rewritten(checkpoint("olmoe"), tmp_path / "changing", lambda tensors: None)
    recipe = pretrained(folder)
    plan = compile_plan(recipe)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-4}))
    with pytest.raises(UserError, match="not the checkpoint that the plan was made from"):
        build_model(recipe, plan)


def test_without_weights_nothing_is_read(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model folder opens without the checkpoint it came from."""
    folder = rewritten(checkpoint("olmoe"), tmp_path / "gone", lambda tensors: None)
    recipe = pretrained(folder)
    plan = compile_plan(recipe)
    shutil.rmtree(folder)
    model = build_model(recipe, plan, weights=False)
    check_against_plan(model, plan)
    assert all(tensor.isnan().all() for tensor in saved_tensors(model).values())

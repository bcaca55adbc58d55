"""Model folders in transformers' auto classes: same tensors, same logits, generation, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from smoe_cli.convert.options import Options
from smoe_cli.errors import Failure
from smoe_cli.families import ANATOMIES
from smoe_cli.model.hf import SymbioticForCausalLM
from smoe_cli.model.io import load_model
from tests.convert.make import convert, detached, some_ids, write_recipe
from tests.eval.folders import write_model
from tests.families.tiny import write_checkpoint

UNCHECKED = Options(verify="tensors")


def auto(folder: Path, **keywords: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **keywords)


def logits(model: Any, **keywords: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=some_ids(), use_cache=False, **keywords).logits


def assert_same_model(found: Any, ours: Any) -> None:
    """Parameters, and buffers whether files hold them or not."""
    for kind in ("named_parameters", "named_buffers"):
        own, other = dict(getattr(ours, kind)()), dict(getattr(found, kind)())
        assert own.keys() == other.keys()
        for name, tensor in own.items():
            assert torch.equal(other[name], tensor), name


@pytest.mark.parametrize("family", ANATOMIES)
def test_every_family(tmp_path: Path, family: str) -> None:
    _, folder = convert(tmp_path, family, UNCHECKED)
    model, ours = auto(folder), load_model(folder)[0]
    assert type(model) is SymbioticForCausalLM
    assert_same_model(model, ours)
    assert torch.equal(logits(detached(model)), logits(ours.backbone))

    mask = torch.ones_like(some_ids())
    mask[0, :3] = 0
    assert torch.equal(logits(model, attention_mask=mask), logits(ours.backbone, attention_mask=mask))
    embeds = model.get_input_embeddings()(some_ids())
    with torch.inference_mode():
        assert torch.equal(model(inputs_embeds=embeds, use_cache=False).logits, logits(model))

    greedy = {"max_new_tokens": 6, "do_sample": False, "attention_mask": mask}
    cached = model.generate(some_ids(), **greedy)
    assert torch.equal(cached, model.generate(some_ids(), use_cache=False, **greedy))
    assert torch.equal(cached, ours.backbone.generate(some_ids(), **greedy))


@pytest.mark.parametrize("family", ANATOMIES)
def test_save_pretrained(tmp_path: Path, family: str) -> None:
    """Tensors and config are those of the folder, and stay so."""
    _, folder = convert(tmp_path, family, UNCHECKED)
    auto(folder).save_pretrained(tmp_path / "first")
    auto(tmp_path / "first").save_pretrained(tmp_path / "second")
    for name in ("config.json", "model.safetensors"):
        first = (tmp_path / "first" / name).read_bytes()
        assert first == (tmp_path / "second" / name).read_bytes()
        assert first == (folder / name).read_bytes()


def test_from_scratch_tied(tmp_path: Path) -> None:
    from tests.helpers import tiny

    folder = write_model(tmp_path / "model", tiny(**{"model.backbone.scratch.tie_word_embeddings": True}))
    model = auto(folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert_same_model(model, load_model(folder)[0])


@pytest.mark.parametrize("shared", [0, 1])
def test_upcycled(tmp_path: Path, shared: int) -> None:
    from smoe_cli.convert.symbiotic import to_symbiotic

    checkpoint = write_checkpoint("qwen3", tmp_path / "checkpoint")
    groups = [
        {"name": "text", "modalities": ["text"], "experts": 3},
        {"name": "images", "modalities": ["vit", "vae"], "experts": 3, "mount": {"group": "text"}},
    ]
    spec = {"upcycle": {"from": str(checkpoint), "experts": 3, "shared": shared}}
    phases = {"phases.1.shields": []} if shared == 0 else {}
    recipe = write_recipe(
        tmp_path / "r.yaml", "qwen2_moe", checkpoint, **{"model.backbone": spec, "model.groups": groups, **phases}
    )
    to_symbiotic(recipe, tmp_path / "out", UNCHECKED)
    model, ours = auto(tmp_path / "out"), load_model(tmp_path / "out")[0]
    assert_same_model(model, ours)
    assert torch.equal(logits(detached(model)), logits(ours.backbone))


def test_config_and_tokenizer(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", UNCHECKED)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    assert (config.model_type, config.architectures) == ("symbiotic_moe", ["SymbioticForCausalLM"])
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (32, 3, 300)
    assert AutoTokenizer.from_pretrained(folder).encode("Words") == load_model(folder)[1].encode("Words")


def test_labels_and_gradients(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", UNCHECKED)
    model, ours = auto(folder), load_model(folder)[0]
    detached(model).train()
    ours.train()
    for own in (model, ours.backbone):
        own(input_ids=some_ids(), labels=some_ids()).loss.backward()
    for (name, a), b in zip(model.backbone.named_parameters(), ours.backbone.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        assert a.grad is None or torch.equal(a.grad, b.grad), name


def test_types_and_kernels(tmp_path: Path) -> None:
    """Routing stays in float32, everything else takes the type."""
    _, folder = convert(tmp_path, "deepseek_v3", UNCHECKED)
    model = auto(folder, dtype=torch.bfloat16, attn_implementation="eager", experts_implementation="eager")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for n, b in model.named_buffers() if n.endswith("correction_bias")} == {torch.float32}
    assert (model.backbone.config._attn_implementation, model.backbone.config._experts_implementation) == ("eager", "eager")
    assert torch.isfinite(logits(model)).all()
    assert auto(folder).backbone.config._attn_implementation == "sdpa"
    half = convert(tmp_path / "half", "qwen2_moe", Options(dtype="BF16", verify="tensors"))[1]
    assert auto(half).dtype == torch.bfloat16


@pytest.mark.parametrize("place", ["cpu", "meta", "auto"])
def test_device_map(tmp_path: Path, place: str) -> None:
    _, folder = convert(tmp_path, "deepseek_v3", UNCHECKED)
    model = auto(folder, device_map=place)
    assert model.device.type == ("meta" if place == "meta" else "cpu")
    if place != "meta":
        assert_same_model(model, load_model(folder)[0])


def test_from_config_has_random_weights(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", UNCHECKED)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert all(torch.isfinite(p).all() and p.device.type == "cpu" for p in model.parameters())


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_nothing_is_left_at_random(tmp_path: Path, change: str) -> None:
    """transformers only warns of a tensor that is missing, and draws it."""
    _, folder = convert(tmp_path, "qwen2_moe", UNCHECKED)
    tensors = load_file(folder / "model.safetensors")
    name = "backbone.model.layers.0.mlp.experts.generation.down_proj"
    tensor = tensors.pop(name)
    if change == "unexpected":
        tensors |= {name: tensor, f"{name}.twin": tensor.clone()}
    if change == "mismatched":
        tensors[name] = tensor[:, :-1].contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    keywords = {"ignore_mismatched_sizes": True} if change == "mismatched" else {}
    with pytest.raises(Failure, match=f"{change} keys: .*generation.down_proj"):
        auto(folder, **keywords)


def test_pixels_are_refused(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "qwen3_vl_moe", UNCHECKED)
    with pytest.raises(ValueError, match="`pixel_values`: this class reads text"):
        auto(folder)(input_ids=some_ids(), pixel_values=torch.zeros(1))


def test_a_config_without_recipe() -> None:
    with pytest.raises(ValueError, match="no `recipe` and `source`"):
        AutoModelForCausalLM.from_config(AutoConfig.for_model("symbiotic_moe"))

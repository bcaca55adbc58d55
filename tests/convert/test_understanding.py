"""Promise 8: the understanding export loads in plain transformers, without this package, and gives the same logits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from smoe_cli.convert import understanding
from smoe_cli.convert.understanding import export_understanding, plain_name, select, text_group
from smoe_cli.errors import Failure, UserError
from smoe_cli.model.anatomy import anatomy_of
from smoe_cli.model.io import load_model
from tests.eval.folders import READING_ONLY, build, write_model
from tests.helpers import one_group, tiny

TEXT = "Promises, each a test: 光 42.\n"

READER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "smoe_cli":
            raise ImportError("this package is not here")
sys.meta_path.insert(0, Blocked())
try:
    import smoe_cli
    raise SystemExit("smoe_cli could be imported")
except ImportError:
    pass
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, out, experts, text = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, experts_implementation=experts)
tokenizer = AutoTokenizer.from_pretrained(folder)
for parameter in model.parameters():
    parameter.data = parameter.data.clone()  # off the file's mapping: rounding depends on the address
input_ids = torch.tensor([tokenizer.encode(text)])
with torch.inference_mode():
    save_file({"input_ids": input_ids, "logits": model(input_ids).logits}, out)
print(type(model).__module__, model.dtype, model.generation_config.eos_token_id)
"""


def logits(model: Any, input_ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.backbone(input_ids=input_ids).logits


@pytest.mark.parametrize("experts", ["grouped_mm", "eager"])
def test_loads_without_this_package_and_gives_the_same_logits(tmp_path: Path, experts: str) -> None:
    source = write_model(tmp_path / "model", tiny(**{"training.experts": experts}))
    facts = export_understanding(source, tmp_path / "out")
    assert facts.check.difference == 0
    command = [sys.executable, "-c", READER, str(tmp_path / "out"), str(tmp_path / "logits"), experts, TEXT]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.split() == ["transformers.models.qwen2_moe.modeling_qwen2_moe", "torch.float32", "2"]
    read = load_file(tmp_path / "logits")
    model, tokenizer, _, _ = load_model(source)
    assert read["input_ids"].tolist() == [tokenizer.encode(TEXT)]
    assert torch.equal(read["logits"], logits(model, read["input_ids"]))


SKIPPED = {"model.shared": {"intermediate_size": 24, "modalities": ["vit", "vae"]}}


@pytest.mark.parametrize(
    "recipe",
    [
        tiny(),
        tiny(**{"model.backbone.scratch.tie_word_embeddings": True}),
        tiny(**{"model.groups.0.select": [[0, 1, 2, 3], [2, 3, 4, 5]]}),
        tiny(**SKIPPED),
        tiny(**{"training.attention": "eager", "training.experts": "eager"}),
        one_group(),
        tiny(**READING_ONLY),
    ],
    ids=["split", "tied", "split by layer", "text skips the shared experts", "eager", "one group", "no drawing"],
)
def test_logits_are_equal_bit_for_bit(tmp_path: Path, recipe: Any) -> None:
    source = write_model(tmp_path / "model", recipe)
    facts = export_understanding(source, tmp_path / "out")
    assert facts.check.difference == 0
    model, tokenizer, _, plan = load_model(source)
    plain = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation=recipe.training.attention, experts_implementation=recipe.training.experts
    )
    assert plain.config.num_experts == text_group(plan).size
    for parameter in plain.parameters():
        parameter.data = parameter.data.clone()  # off the file's mapping: rounding depends on the address
    input_ids = torch.tensor([tokenizer.encode(TEXT)])
    with torch.inference_mode():
        assert torch.equal(plain(input_ids).logits, logits(model, input_ids))
    assert facts.kept + sum(facts.dropped.values()) == sum(p.numel() for p in model.parameters())


def test_generates_with_plain_transformers(tmp_path: Path) -> None:
    export_understanding(write_model(tmp_path / "model"), tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert plain.config.use_cache
    new = plain.generate(torch.tensor([[1, 100, 101]]), max_new_tokens=5)
    assert new.shape[1] <= 8


def test_kept_and_dropped_are_all_there_is() -> None:
    model, _ = build(tiny())
    selection = select(model, text_group(model.plan))
    names = {name for name, _ in model.named_parameters()}
    assert set(selection.dropped) < names
    assert len(selection.kept) + len(selection.dropped) == len(names)
    assert all(".generation." in name or name.split(".")[0] in ("vision", "projector", "latents") for name in selection.dropped)
    router = selection.kept["model.layers.1.mlp.gate.weight"]
    assert torch.equal(router, model.backbone.model.layers[1].mlp.router["understanding"].weight)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("backbone.model.layers.3.mlp.router.text.weight", "model.layers.3.mlp.gate.weight"),
        ("backbone.model.layers.3.mlp.experts.text.gate_up_proj", "model.layers.3.mlp.experts.gate_up_proj"),
        ("backbone.model.layers.3.mlp.router.text-2.weight", None),
        ("backbone.model.layers.3.mlp.shared_expert.up_proj.weight", "model.layers.3.mlp.shared_expert.up_proj.weight"),
        ("backbone.lm_head.weight", "lm_head.weight"),
        ("vision.layernorm.weight", None),
        ("latents.norm.weight", None),
    ],
)
def test_names(ours: str, theirs: str | None) -> None:
    assert plain_name(ours, "text", anatomy_of("qwen2_moe")) == theirs


def test_card_says_what_it_is_and_what_is_gone(tmp_path: Path) -> None:
    export_understanding(write_model(tmp_path / "model"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["files"]["model.safetensors"]["sha256"] in card
    for words in (
        "Recipe: `tiny`",
        "experts 0, 2–3, 5 of every layer",
        "| `experts.generation` |",
        "| `vision` |",
        "bit for bit",
    ):
        assert words in card


def test_only_into_a_new_folder(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    (tmp_path / "out").mkdir()
    export_understanding(source, tmp_path / "out")  # an empty one will do
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for out in (tmp_path / "out", source / "smoe.yaml"):
        with pytest.raises(UserError, match="exists and is not empty"):
            export_understanding(source, out)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("part", ["weights", "tokenizer"])
def test_what_does_not_pass_the_check_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Damage between writing and reading back: the export must fail by name, and OUT must not exist."""
    source = write_model(tmp_path / "model")
    original = understanding.verify

    def damage(folder: Path, *arguments: Any) -> Any:
        if part == "weights":
            tensors = load_file(folder / "model.safetensors")
            tensors["model.layers.0.mlp.experts.1.up_proj.weight"] += 1e-3
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            file = folder / "tokenizer.json"
            tokenizer = json.loads(file.read_text(encoding="utf-8"))
            vocabulary = tokenizer["model"]["vocab"]
            vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
            file.write_text(json.dumps(tokenizer), encoding="utf-8")
        return original(folder, *arguments)

    monkeypatch.setattr(understanding, "verify", damage)
    with pytest.raises(Failure, match="gate_up_proj" if part == "weights" else "tokenizer encodes"):
        export_understanding(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_without_a_text_group() -> None:
    plan = build(tiny())[0].plan
    import dataclasses

    with pytest.raises(UserError, match="no expert group of this model serves text"):
        text_group(dataclasses.replace(plan, group_of={"vae": 1}))


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    data = bytearray((source / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (source / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
        export_understanding(source, tmp_path / "out")

"""Promise 8: the understanding export is a plain checkpoint of the family, and gives the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from smoe_cli.convert.options import Options
from smoe_cli.convert.symbiotic import to_symbiotic
from smoe_cli.convert.understanding import to_understanding
from smoe_cli.convert.verify import encode, logits
from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES
from smoe_cli.model.io import load_model
from tests.convert.make import POOLS, SPLIT, convert, detached, recipe_data, some_ids, write_profile, write_recipe
from tests.eval.folders import READING_ONLY, write_model
from tests.families.tiny import write_checkpoint
from tests.helpers import one_group, tiny

MOUNTED = {"name": "vae", "modalities": ["vae"], "experts": 8, "mount": {"group": "vit"}}
SKIPPED = {"model.shared": {"intermediate_size": 24, "modalities": ["vit", "vae"]}}


def text_logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=some_ids(), use_cache=False).logits


def plain(folder: Path, family: str, **kernels: Any) -> Any:
    auto = AutoModelForImageTextToText if ANATOMIES[family].multimodal else AutoModelForCausalLM
    model, info = auto.from_pretrained(folder, output_loading_info=True, **kernels)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return detached(model)


@pytest.mark.parametrize("family", [family for family in ANATOMIES if family != "ernie4_5_vl_moe"])
def test_every_family_gives_the_same_logits(tmp_path: Path, family: str) -> None:
    _, folder = convert(tmp_path, family, Options(verify="tensors"))
    report = to_understanding(folder, tmp_path / "out", Options())
    assert report.check.difference == 0
    assert report.check.tokens > 100
    model = plain(tmp_path / "out", family)
    ours = load_model(folder)[0]
    assert torch.equal(text_logits(model), text_logits(ours.backbone))
    assert model.config.architectures == [type(model).__name__]
    size = ours.plan.groups[0].size
    assert getattr(model.config.get_text_config(), ANATOMIES[family].num_experts) == size
    kept = sum(p.numel() for p in model.parameters())
    fixed = sum(b.numel() for n, b in ours.named_buffers() if n.endswith("correction_bias") and ".understanding." in n)
    left = sum(report.left_out.values())
    lost = sum(b.numel() for n, b in ours.named_buffers() if n.endswith("correction_bias") and ".generation." in n)
    assert kept + left == sum(p.numel() for p in ours.parameters()) + lost
    assert report.parameters == kept + fixed


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
def test_models_from_scratch(tmp_path: Path, recipe: Any) -> None:
    source = write_model(tmp_path / "model", recipe)
    report = to_understanding(source, tmp_path / "out", Options())
    assert report.check.difference == 0
    kernels = {"attn_implementation": recipe.training.attention, "experts_implementation": recipe.training.experts}
    model = plain(tmp_path / "out", "qwen2_moe", **kernels)
    assert torch.equal(text_logits(model), text_logits(load_model(source)[0].backbone))
    assert model.config.use_cache
    assert (model.config.bos_token_id, model.config.eos_token_id) == (1, 2)
    assert model.generate(torch.tensor([[1, 100, 101]]), max_new_tokens=5).shape[1] <= 8


def test_files_have_the_familys_names(tmp_path: Path) -> None:
    """Those that the checkpoint has, so that other libraries read them too."""
    checkpoint, folder = convert(tmp_path, "qwen3_moe")
    to_understanding(folder, tmp_path / "out", Options())
    own, exported = (load_file(f / "model.safetensors") for f in (checkpoint, tmp_path / "out"))
    assert exported.keys() == {name for name in own if not any(f".experts.{e}." in name for e in (5, 6, 7))}
    for new, old in enumerate((0, 2, 3, 5, 7)):
        name = "model.layers.1.mlp.experts.{}.up_proj.weight"
        assert torch.equal(exported[name.format(new)], own[name.format(old)])
    assert torch.equal(exported["model.layers.1.mlp.gate.weight"], own["model.layers.1.mlp.gate.weight"][[0, 2, 3, 5, 7]])


def test_selection_biases_are_sliced(tmp_path: Path) -> None:
    checkpoint, folder = convert(tmp_path, "glm4_moe")
    to_understanding(folder, tmp_path / "out", Options())
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    own, exported = (load_file(f / "model.safetensors")[name] for f in (checkpoint, tmp_path / "out"))
    assert torch.equal(exported, own[[0, 2, 3, 5, 7]])


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "glm4v_moe", "qwen3_5_moe"])
def test_multimodal_exports_see(tmp_path: Path, family: str) -> None:
    """The text group also serves images here, so an image gives the logits that the split model gives."""
    _, folder = convert(tmp_path, family, Options(verify="tensors"))
    to_understanding(folder, tmp_path / "out", Options(verify="tensors"))
    model, ours = plain(tmp_path / "out", family), load_model(folder)[0]
    config = model.config
    spec = config.vision_config
    rows = columns = 2 * spec.spatial_merge_size
    pixels = torch.randn(rows * columns, 3 * spec.temporal_patch_size * spec.patch_size**2, generator=torch.manual_seed(0))
    image = [config.image_token_id] * (rows * columns // spec.spatial_merge_size**2)
    first, last = ours.plan.source.backbone.image_tokens or (0, 0)
    ids = torch.tensor([[7, 8, first, *image, last, 9, 10, 11]])
    batch = {
        "input_ids": ids,
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, rows, columns]]),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
    }
    with torch.inference_mode():
        seen = model(**batch, use_cache=False).logits
        assert torch.equal(seen, ours.backbone(**batch, use_cache=False).logits)
        other = model(**{**batch, "pixel_values": pixels + 1}, use_cache=False).logits
    assert not torch.equal(seen[:, -3:], other[:, -3:])


def test_ernie_keeps_the_groups_of_both_pools(tmp_path: Path) -> None:
    """They take all experts of their pools here, so the export is the checkpoint."""
    groups = [POOLS[0], {**POOLS[1], "experts": 8, "select": "rest"}, MOUNTED]
    checkpoint, folder = convert(tmp_path, "ernie4_5_vl_moe", **{"model.groups": groups})
    report = to_understanding(folder, tmp_path / "out", Options())
    assert report.check.difference == 0
    assert set(report.left_out) == {"experts.vae", "router.vae", "latents"}
    own, exported = (load_file(f / "model.safetensors") for f in (checkpoint, tmp_path / "out"))
    assert own.keys() == exported.keys()
    assert all(torch.equal(own[name], exported[name]) for name in own)


def test_ernie_with_pools_of_different_sizes(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "ernie4_5_vl_moe", Options(verify="tensors"))
    with pytest.raises(UserError, match="as many experts for text as for images, this model has `text` 8, `vit` 6"):
        to_understanding(folder, tmp_path / "out", Options())


def test_a_group_for_images_is_named_when_it_is_left_out(tmp_path: Path) -> None:
    groups = [
        {"name": "text", "modalities": ["text"], "experts": 4, "select": "first"},
        {"name": "vit", "modalities": ["vit"], "experts": 2, "select": "last"},
        {"name": "vae", "modalities": ["vae"], "experts": 2},
    ]
    _, folder = convert(tmp_path, "qwen3_vl_moe", Options(verify="tensors"), **{"model.groups": groups})
    report = to_understanding(folder, tmp_path / "out", Options())
    assert any("`vit`, which serves images in this model, is left out" in note for note in report.notes)
    assert {"experts.vit", "experts.vae"} <= set(report.left_out)


def test_a_family_without_its_shared_experts(tmp_path: Path) -> None:
    """`shared: none` becomes shared experts that add nothing."""
    changes = {"model.shared": "none", "phases": [{**p, "shields": []} for p in recipe_data("qwen2_moe", tmp_path)["phases"]]}
    _, folder = convert(tmp_path, "qwen2_moe", **changes)
    assert to_understanding(folder, tmp_path / "out", Options()).check.difference == 0
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert not any(tensor.any() for name, tensor in tensors.items() if "shared_expert" in name)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_types(tmp_path: Path, dtype: str) -> None:
    _, folder = convert(tmp_path, "qwen3_moe", Options(verify="tensors"))
    check = to_understanding(folder, tmp_path / "out", Options(dtype=dtype)).check
    assert check.difference == 0
    torch_dtype = {"BF16": torch.bfloat16, "F16": torch.float16}[dtype]
    model = plain(tmp_path / "out", "qwen3_moe")
    assert model.dtype == torch_dtype
    inputs, source = encode(read_tokenizer(str(folder))), load_model(folder)[0].backbone
    pairs = zip(logits(model.float(), inputs), logits(source, inputs), strict=True)
    assert check.moved == max(float((a - b).abs().max()) for a, b in pairs) > 0
    name = str(torch_dtype).removeprefix("torch.")
    assert f"equal bit for bit to those of the source with weights rounded to {name}; rounding moved" in check.words()


def test_promoted(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("olmoe", tmp_path / "checkpoint")
    changes: dict[str, Any] = {
        "model.shared": {"promote": 1},
        "model.profile": str(write_profile(tmp_path / "profile.json", checkpoint)),
        "model.groups": [{**SPLIT[0], "experts": 4, "select": "most-activated"}, SPLIT[1]],
    }
    to_symbiotic(write_recipe(tmp_path / "r.yaml", "olmoe", checkpoint, **changes), tmp_path / "symbiotic", Options())
    with pytest.raises(UserError, match="no experts that are always on"):
        to_understanding(tmp_path / "symbiotic", tmp_path / "out", Options())


def test_upcycled(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("llama", tmp_path / "checkpoint")
    groups = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 4}]
    changes = {"model.backbone": {"upcycle": {"from": str(checkpoint), "experts": 4}}, "model.groups": groups}
    to_symbiotic(write_recipe(tmp_path / "r.yaml", "qwen2_moe", checkpoint, **changes), tmp_path / "symbiotic", Options())
    with pytest.raises(UserError, match="a plain `llama` is dense"):
        to_understanding(tmp_path / "symbiotic", tmp_path / "out", Options())


def test_the_card_says_what_it_is_and_what_is_gone(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    to_understanding(source, tmp_path / "out", Options())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    for words in (
        manifest["files"]["model.safetensors"]["sha256"],
        "Recipe: `tiny`",
        "| `understanding` | text, vit | 4 | 0, 2–3, 5 |",
        "| `experts.generation` |",
        "| `vision` |",
        "bit for bit",
        "without the package that wrote it",
    ):
        assert words in card


def test_tokenizer_and_processor_files_are_carried(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen3_vl_moe", tmp_path / "checkpoint")
    (checkpoint / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    to_symbiotic(
        write_recipe(tmp_path / "r.yaml", "qwen3_vl_moe", checkpoint), tmp_path / "symbiotic", Options(verify="tensors")
    )
    to_understanding(tmp_path / "symbiotic", tmp_path / "out", Options(verify="tensors"))
    for name in ("preprocessor_config.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (checkpoint / name).read_bytes()
    assert (tmp_path / "out" / "tokenizer.json").is_file()

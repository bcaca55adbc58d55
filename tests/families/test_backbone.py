"""Backbones read from files are the models that transformers builds, by name and shape."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForImageTextToText, PreTrainedModel

from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES, Backbone, anatomy_of, open_checkpoint, read_backbone
from smoe_cli.families.backbone import integer
from tests.families import files
from tests.families.conftest import Written
from tests.families.tiny import DENSE_FAMILIES, FAMILIES, MULTIMODAL_FAMILIES, TEXT_FAMILIES, plain_model, write_checkpoint

ALL = (*FAMILIES, *DENSE_FAMILIES)


def held(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Every parameter (a tied head once) and persistent buffer of a model."""
    state = model.state_dict(keep_vars=True)
    buffers = {name for name, _ in model.named_buffers()} & set(state)
    return {name: tuple(state[name].shape) for name in {name for name, _ in model.named_parameters()} | buffers}


def backbone_of(folder: Path) -> Backbone:
    return read_backbone(open_checkpoint(str(folder)))


def test_every_family_has_a_row_in_tiny() -> None:
    assert set(FAMILIES) == set(ANATOMIES)


@pytest.mark.parametrize("shards", ["50GB", "30KB"])
@pytest.mark.parametrize("family", ALL)
def test_names_and_shapes_are_those_of_the_built_model(written: Written, family: str, shards: str) -> None:
    folder = written(family, shards)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shards == "30KB")
    assert backbone_of(folder).tensors == held(plain_model(family))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [*TEXT_FAMILIES, *DENSE_FAMILIES])
def test_a_tied_head_is_left_out_and_another_is_there(tmp_path: Path, family: str, tied: bool) -> None:
    backbone = backbone_of(write_checkpoint(family, tmp_path, tie_word_embeddings=tied))
    assert backbone.tied == tied
    assert backbone.tensors == held(plain_model(family, tie_word_embeddings=tied))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", MULTIMODAL_FAMILIES)
def test_tying_is_decided_at_the_top_of_a_multimodal_config(written: Written, tmp_path: Path, family: str, tied: bool) -> None:
    def change(tensors: files.Tensors, config: files.Config) -> None:
        config["tie_word_embeddings"] = tied
        config["text_config"]["tie_word_embeddings"] = not tied
        tensors.pop("lm_head.weight", None)
        if not tied:
            tensors["lm_head.weight"] = np.ones((300, 32), np.float32)

    folder = files.changed(written(family), tmp_path / "changed", change)
    backbone = backbone_of(folder)
    assert backbone.tied == tied
    assert backbone.tensors == held(AutoModelForImageTextToText.from_pretrained(folder))


@pytest.mark.parametrize("family", ALL)
def test_every_tensor_has_the_kind_that_its_name_says(written: Written, family: str) -> None:
    """Kinds are found by path; here by the words in the name, which are those of transformers."""
    backbone = backbone_of(written(family))
    anatomy = anatomy_of(family)
    for name in backbone.tensors:
        inside, kind = name.removeprefix(f"{anatomy.decoder}."), backbone.part(name).kind
        if name.startswith(("model.visual.", "model.vision_tower.", "model.resampler_model.")):
            assert kind == ("projector" if any(w in name for w in ("merger", "downsample", "resampler")) else "vision")
        elif inside in ("embed_tokens.weight", "lm_head.weight"):
            assert kind == "embeddings"
        elif "norm" in inside.split(".")[-2]:
            assert kind == "norms"
        elif "_attn." in inside:
            assert kind == "attention"
        elif "correction_bias" in inside:
            assert kind == "bias"
        elif ".shared_expert_gate." in inside:
            assert kind == "shared_gate"
        elif ".shared_" in inside:
            assert kind == "shared"
        elif ".experts." in inside:
            assert kind == "experts"
        elif ".gate." in inside:
            assert kind == "router"
        else:
            assert kind == "dense"
            assert ".mlp." in inside


@pytest.mark.parametrize("family", FAMILIES)
def test_the_block_says_what_the_config_says(written: Written, family: str) -> None:
    backbone, model = backbone_of(written(family)), plain_model(family)
    text = model.config.get_text_config()
    anatomy = anatomy_of(family)
    experts, pools = getattr(text, anatomy.num_experts), len(anatomy.pools)
    assert backbone.hidden_size == text.hidden_size
    assert backbone.vocab_size == text.vocab_size
    assert backbone.layers == text.num_hidden_layers
    assert backbone.pool_sizes == (experts,) * pools
    assert backbone.num_experts == pools * experts
    assert backbone.top_k == text.num_experts_per_tok
    dense = 1 if "first_k_dense_replace" in text.to_dict() or family == "ernie4_5_vl_moe" else 0
    assert backbone.moe_layers == tuple(range(dense, text.num_hidden_layers))
    assert backbone.has_shared == (anatomy.shared is not None)


@pytest.mark.parametrize("family", MULTIMODAL_FAMILIES)
def test_what_a_family_says_about_images(written: Written, family: str) -> None:
    backbone, config = backbone_of(written(family)), plain_model(family).config
    start, end = anatomy_of(family).image_tokens or ("", "")
    assert backbone.image_tokens == (getattr(config, start), getattr(config, end)) == (292, 293)
    assert backbone.image_token == config.image_token_id
    geometry = backbone.vision_geometry
    assert geometry is not None
    assert (geometry.patch_size, geometry.merge_size) == (8, 2)
    assert geometry.temporal_patch_size == getattr(config.vision_config, "temporal_patch_size", 1)


def test_text_families_say_nothing_about_images(written: Written) -> None:
    backbone = backbone_of(written("qwen3_moe"))
    assert (backbone.image_tokens, backbone.image_token, backbone.vision_geometry) == (None, None, None)


@pytest.mark.parametrize("family", ALL)
def test_a_stored_backbone_knows_its_files(written: Written, family: str) -> None:
    """Through JSON and back, without the checkpoint: the same backbone, and the names on disk, every one."""
    folder = written(family)
    backbone = backbone_of(folder)
    again = Backbone.from_dict(json.loads(json.dumps(backbone.to_dict())))
    assert again == backbone
    assert set(again.layout.disk) == set(files.read(folder)[0])
    assert again.layout.slots == backbone.layout.slots


def test_a_stored_backbone_without_its_tensors_is_refused(written: Written) -> None:
    with pytest.raises(ValueError, match="no embedding"):
        Backbone.from_dict(backbone_of(written("qwen3_moe")).to_dict() | {"tensors": {}})


def test_numbers_of_a_config() -> None:
    assert integer({"moe_topk": [8, 8]}, "moe_topk") == integer({"moe_topk": 8}, "moe_topk") == 8
    for bad in ([8, 6], [], "8", True, None, 8.0, -1, [[8]]):
        with pytest.raises(UserError, match="moe_topk"):
            integer({"moe_topk": bad}, "moe_topk")
    assert integer({"n_group": 1}, "n_group", least=1) == 1
    with pytest.raises(UserError, match="`n_group` should be a whole number of at least 1, found 0"):
        integer({"n_group": 0}, "n_group", least=1)
    with pytest.raises(UserError, match="lacks `moe_topk`"):
        integer({}, "moe_topk")


def test_neither_torch_nor_transformers_is_imported(written: Written) -> None:
    code = (
        "import sys; from smoe_cli.families import open_checkpoint, read_backbone; "
        f"read_backbone(open_checkpoint({str(written('ernie4_5_vl_moe'))!r})).layout; "
        "assert not {'torch', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Recipes that do not fit their checkpoint, encoder or profile: what is said, and where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from smoe_cli.plan import PlanError, compile_plan
from smoe_cli.recipe import load
from smoe_cli.recipe.models import Recipe
from tests.families.conftest import Written
from tests.families.tiny import write_checkpoint
from tests.plan.pretrained import RISING, backbone_of, data_of, plan_of, problems, profile_of

SHARED_TEXT = {"model.groups.0.modalities": ["text", "vit"]}


def profile(folder: Path, path: Path, **changes: Any) -> str:
    """A profile of the checkpoint with some fields changed, as a file."""
    data = profile_of(backbone_of(folder), {"text": RISING}).to_dict()
    path.write_text(json.dumps({**data, **changes}))
    return str(path)


def test_dense_and_sparse_are_not_mixed_up(written: Written) -> None:
    dense, sparse = written("llama"), written("olmoe")
    found = problems(sparse, **{"model.backbone": {"pretrained": {"path": str(dense)}}})
    assert found == {
        "model.backbone.pretrained.path": f"`{dense}` is a dense `llama`, without experts to split\n"
        f"make it sparse: `upcycle: {{from: {dense}, experts: …}}`"
    }
    found = problems(dense, **{"model.backbone": {"upcycle": {"from": str(sparse), "experts": 8}}})
    assert list(found) == ["model.backbone.upcycle.from"]
    assert "has experts already" in found["model.backbone.upcycle.from"]


@pytest.mark.parametrize(
    ("family", "way", "path"),
    [("olmoe", "pretrained", "model.backbone.pretrained.path"), ("llama", "upcycle", "model.backbone.upcycle.from")],
)
def test_files_that_cannot_be_read_are_told_at_the_key(family: str, way: str, path: str, written: Written) -> None:
    changes = {f"model.backbone.{way}.{'path' if way == 'pretrained' else 'from'}": "/nowhere/at/all"}
    found = problems(written(family), **changes)
    assert list(found) == [path]
    assert "/nowhere/at/all: no such folder" in found[path]


DAMAGES = [
    ("qwen2_moe", "num_attention_heads", None, "lacks `num_attention_heads`"),
    ("qwen2_moe", "num_attention_heads", 0, "`num_attention_heads` should be a whole number of at least 1, found 0"),
    ("qwen2_moe", "num_key_value_heads", "x", "`num_key_value_heads` should be a whole number"),
    ("qwen2_moe", "max_position_embeddings", "x", "`max_position_embeddings` should be a whole number"),
    ("qwen2_moe", "layer_types", 3, "`layer_types` should name the kind of each of the 3 layers"),
    ("qwen3_moe", "head_dim", "x", "`head_dim` should be a whole number"),
    ("deepseek_v3", "n_group", None, "lacks `n_group`"),
    ("deepseek_v3", "topk_group", [], "`topk_group` should be a whole number"),
    ("deepseek_v3", "v_head_dim", None, "lacks `v_head_dim`"),
    ("llama", "num_attention_heads", None, "lacks `num_attention_heads`"),
    ("qwen3_5_moe", "text_config.linear_key_head_dim", None, "lacks `linear_key_head_dim`"),
    ("qwen3_vl_moe", "vision_config.depth", None, "lacks `depth`"),
    ("qwen3_vl_moe", "vision_config.patch_size", 0, "`patch_size` should be a whole number of at least 1"),
]


@pytest.mark.parametrize(("family", "key", "value", "message"), DAMAGES, ids=lambda value: str(value)[:24])
def test_numbers_of_the_config_are_checked(
    family: str, key: str, value: object, message: str, written: Written, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(written(family), folder)
    raw = data_of(folder)
    config = json.loads((folder / "config.json").read_text())
    *parents, last = key.split(".")
    part = config[parents[0]] if parents else config
    part.update({last: value})
    if value is None:
        del part[last]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PlanError) as error:
        compile_plan(Recipe.model_validate(raw))
    way = ("upcycle", "from") if family == "llama" else ("pretrained", "path")
    assert [problem.path for problem in error.value.problems] == [("model", "backbone", *way)]
    assert message in error.value.problems[0].message


def test_every_unreadable_file_is_told_at_once(written: Written) -> None:
    changes = {
        "model.backbone.pretrained.path": "/nowhere/1",
        "model.vision": {"family": "pretrained", "path": "/nowhere/2"},
        "model.profile": "/nowhere/3",
    }
    assert list(problems(written("olmoe"), **changes)) == [
        "model.backbone.pretrained.path",
        "model.vision.path",
        "model.profile",
    ]


def test_a_family_without_shared_experts_has_to_be_asked(written: Written) -> None:
    for shared in (None, {"modalities": ["text"]}):
        changes = {"model.shared": shared}
        found = problems(written("qwen3_moe"), **changes)
        assert list(found) == ["model.shared"]
        assert "no shared experts" in found["model.shared"]
        assert "none" in found["model.shared"]


def test_promotion(written: Written, tmp_path: Path) -> None:
    own, without = written("qwen2_moe"), written("olmoe")
    path = profile(own, tmp_path / "own.json")
    assert (
        "has shared experts already"
        in problems(own, **{"model.shared": {"promote": 1}, "model.profile": path})["model.shared.promote"]
    )
    path = profile(without, tmp_path / "p.json")
    found = problems(without, **{"model.shared": {"promote": 2}, "model.profile": path})
    assert found["model.shared.promote"].startswith("2 promoted experts of the 2 a token is sent to leave none to choose")
    found = problems(without, **{"model.shared": {"promote": 1}, "model.profile": path})
    assert found["model.groups"].startswith(
        "the groups have 6 + 2 = 8 experts, but the checkpoint has 8 in every layer, of which 1 is promoted"
    )


def test_promoted_experts_cannot_be_listed(written: Written, tmp_path: Path) -> None:
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 5, "select": [0, 1, 2, 3, 7]},
        {"name": "generation", "modalities": ["vae"], "experts": 2},
    ]
    changes = {"model.shared": {"promote": 1}, "model.profile": profile(written("olmoe"), tmp_path / "p.json")}
    found = problems(written("olmoe"), **changes, **{"model.groups": groups})
    assert found["model.groups.0.select.4"].startswith("expert 7 is always on in layer ")


def test_groups_have_to_share_out_the_experts_of_the_checkpoint(written: Written) -> None:
    found = problems(written("olmoe"), **{"model.groups.0.experts": 5})
    assert found["model.groups"].startswith("the groups have 5 + 2 = 7 experts, but the checkpoint has 8 in every layer")
    found = problems(written("llama"), **{"model.groups.0.experts": 5})
    assert found["model.groups"].startswith("the groups have 5 + 2 = 7 experts, but `upcycle` makes 8")
    found = problems(written("olmoe"), **{"model.groups.0.select": [0, 1, 2, 3, 4, 8]})
    assert found["model.groups.0.select.5"] == "there is no expert 8\nexperts are numbered from 0 to 7"
    lists = [[0, 1, 2, 3, 4, 5]] * 3
    found = problems(written("glm4_moe"), **{"model.groups.0.select": lists})
    assert found["model.groups.0.select"].startswith("3 lists of experts for 2 layers")
    assert not problems(written("glm4_moe"), **{"model.groups.0.select": lists[:2]})


def test_groups_smaller_than_top_k(written: Written) -> None:
    changes = {"model.groups.0.experts": 7, "model.groups.1.experts": 1}
    assert "a token is sent to 2" in problems(written("olmoe"), **changes)["model.groups.1.experts"]
    found = problems(written("llama"), **{"model.backbone.upcycle.top_k": 3})
    assert found["model.groups.1.experts"] == (
        "`generation` has 2 experts, but a token is sent to 3\nraise it, or lower `upcycle.top_k`"
    )


def test_pools_are_not_mixed(written: Written) -> None:
    folder = written("ernie4_5_vl_moe")
    groups = [
        {"name": "a", "modalities": ["text", "vit"], "experts": 12, "select": "first"},
        {"name": "b", "modalities": ["vae"], "experts": 4},
    ]
    found = problems(folder, **{"model.groups": groups})
    assert found["model.groups.0.select"].startswith(
        "`a` mixes experts of layer 1 from text_moe (0 to 7) and vision_moe (8 to 15), which have routers of their own"
    )
    groups = [
        {"name": "a", "modalities": ["text"], "experts": 12, "select": "first"},
        {"name": "b", "modalities": ["vit", "vae"], "experts": 4},
    ]
    found = problems(folder, **{"model.groups": groups})
    assert found["model.groups.0.experts"].startswith(
        "`a` has 12 experts, but 8 are left of those that the family keeps for `text`"
    )


def test_a_pool_may_be_split(written: Written) -> None:
    groups = [
        {"name": "text", "modalities": ["text"], "experts": 8, "select": "first"},
        {"name": "vit", "modalities": ["vit"], "experts": 5, "select": "last"},
        {"name": "vae", "modalities": ["vae"], "experts": 3},
    ]
    plan = plan_of(written("ernie4_5_vl_moe"), **{"model.groups": groups})
    assert [group.experts[0] for group in plan.groups] == [tuple(range(8)), (11, 12, 13, 14, 15), (8, 9, 10)]
    assert [group.pool for group in plan.groups] == [0, 1, 1]


def test_expert_group_limits(written: Written) -> None:
    """deepseek_v3 here: two parts of four, of which a token uses one; top-2."""
    groups = [
        {"name": "a", "modalities": ["text", "vit"], "experts": 5, "select": [0, 1, 2, 3, 4]},
        {"name": "b", "modalities": ["vae"], "experts": 3},
    ]
    found = problems(written("deepseek_v3"), **{"model.groups": groups})
    assert list(found) == ["model.groups.0.select"]
    assert "in layer 1 one may hold only 1 expert of this group; a token is sent to 2" in found["model.groups.0.select"]
    assert "0 to 3, 4 to 7" in found["model.groups.0.select"]
    assert not problems(written("deepseek_v3"))  # 0-5 and 6-7: parts of 4 and 2, and of 2
    assert not problems(written("glm4_moe"), **{"model.groups": groups})  # one part: no limits


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("sha256", "0" * 64, "names, shapes and config (sha256) 000000000000…"),
        ("family", "qwen3_moe", "family qwen3_moe, the backbone's olmoe"),
        ("top_k", 4, "top-k 4, the backbone's 2"),
        ("layers", [1, 2, 3], "layers with experts [1, 2, 3], the backbone's [0, 1, 2]"),
    ],
)
def test_a_profile_of_another_model(field: str, value: Any, said: str, written: Written, tmp_path: Path) -> None:
    folder = written("olmoe")
    changes = {
        "model.profile": profile(folder, tmp_path / "p.json", **{field: value}),
        "model.groups.0.select": "most-activated",
    }
    found = problems(folder, **changes)
    assert list(found) == ["model.profile"]
    assert said in found["model.profile"]


def test_a_profile_that_saw_nothing(written: Written, tmp_path: Path) -> None:
    folder = written("olmoe")
    path = profile(folder, tmp_path / "p.json", tokens={}, counts={}, mass={})
    found = problems(folder, **{"model.profile": path, "model.groups.0.select": "most-activated"})
    assert found["model.profile"].startswith("the profile has seen no tokens")


def test_vision_has_to_suit_the_family(written: Written) -> None:
    own = {"family": "own", "image_size": [32, 32]}
    found = problems(written("olmoe"), **{"model.vision": own})
    assert "without a vision encoder of its own" in found["model.vision.family"]
    fresh = data_of(written("olmoe"))["model"]["vision"]
    found = problems(written("qwen3_vl_moe"), **{"model.vision": fresh})
    assert "`vision: {family: own, image_size: […]}`" in found["model.vision.family"]
    found = problems(written("qwen3_vl_moe"), **{"model.vision.image_size": [32, 40]})
    assert found["model.vision.image_size"] == (
        "the width of the image, 40, is not a multiple of 16, the side of one token's square\n32 or 48 would do"
    )


def test_image_positions(written: Written) -> None:
    found = problems(written("olmoe"), **{"model.image_positions": "mrope"})
    assert "one position for each token, not three" in found["model.image_positions"]
    for kind in ("shared", "sequential", "mrope"):
        assert plan_of(written("glm4v_moe"), **{"model.image_positions": kind}).image_positions == kind
    assert plan_of(written("olmoe")).image_positions == "shared"


def test_rows(written: Written) -> None:
    found = problems(written("olmoe"), **{"data.sequence_length": 512, "phases.0.tokens_per_step": 1024})
    assert found["data.sequence_length"].startswith("rows of 512 tokens, but the backbone knows 256 positions")
    found = problems(written("qwen3_vl_moe"), **{"model.vision.image_size": [96, 96]})
    assert found["data.sequence_length"].startswith("a sample of `read` takes 40 tokens or more (36 image")
    assert not problems(written("qwen3_vl_moe"), **{"model.vision.image_size": [96, 96], "data.sequence_length": 64})


def test_kernel(written: Written, tmp_path: Path) -> None:
    folder = write_checkpoint("olmoe", tmp_path / "narrow", intermediate_size=6)
    found = problems(folder, training={})
    assert found["training.experts"].startswith(
        "experts with a width of 6: the kernel `grouped_mm` needs multiples of 4 in fp32"
    )
    assert not problems(written("olmoe"), training={})
    assert "multiples of 8 in bf16" in problems(written("olmoe"), training={"precision": "bf16"})["training.experts"]


def test_built_in_tokenizer_needs_its_rows(tmp_path: Path) -> None:
    folder = write_checkpoint("olmoe", tmp_path / "few", vocab_size=200)
    found = problems(folder, **{"model.tokenizer": {"kind": "bytes"}})
    assert found["model.tokenizer"].startswith("the built-in tokenizer has 261 tokens, the backbone's embedding 200 rows")
    assert not problems(folder)


@pytest.mark.parametrize("family", ["olmoe", "llama"])
def test_a_checkpoint_without_a_tokenizer(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(family, tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    key = "model.backbone.upcycle.from" if family == "llama" else "model.backbone.pretrained.path"
    found = problems(folder)
    assert list(found) == [key]
    assert found[key].startswith(f"{folder}: no tokenizer.json")
    assert "{kind: bytes}" in found[key]
    assert not problems(folder, **{"model.tokenizer": {"kind": "bytes"}})


def test_dense_feed_forwards_with_biases(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path / "biased", mlp_bias=True)
    assert "feed-forward layers with biases" in problems(folder)["model.backbone.upcycle.from"]


def test_a_damaged_checkpoint_is_told_at_its_key(tmp_path: Path) -> None:
    folder = write_checkpoint("olmoe", tmp_path / "damaged")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("model.layers.1.mlp.experts.3.up_proj.weight")
    save_file(tensors, file)
    found = problems_of_path(folder)
    assert list(found) == ["model.backbone.pretrained.path"]
    assert "layers.1.mlp.experts" in found["model.backbone.pretrained.path"]


def problems_of_path(folder: Path) -> dict[str, str]:
    """Like `problems`, for a checkpoint that cannot be read to make a recipe for it."""
    intact = write_checkpoint("olmoe", folder.parent / "intact")
    return problems(intact, **{"model.backbone.pretrained.path": str(folder)})


def test_places_in_the_file(written: Written, tmp_path: Path) -> None:
    """The loader shows a problem of the plan at its line."""
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(data_of(written("olmoe"), **{"model.groups.0.experts": 5}), indent=1))
    loaded = load(path)
    with pytest.raises(PlanError) as caught:
        compile_plan(loaded.recipe)
    assert '"groups": [\n' in path.read_text()
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if '"groups"' in text)
    assert str(loaded.error(caught.value.problems)).startswith(f"{path}:{line}:3: error: the groups have 5 + 2 = 7 experts")

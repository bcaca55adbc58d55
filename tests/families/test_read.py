"""Checkpoints whose files are sound and whose parts do not fit together: each an error that names the part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from smoe_cli.errors import UserError
from smoe_cli.families import open_checkpoint, read_backbone
from tests.families import files
from tests.families.conftest import Written
from tests.families.files import Config, Tensors

Change = Callable[[Tensors, Config], None]
EXPERT = "model.layers.1.mlp.experts.{}.{}_proj.weight"
ERNIE = "model.layers.1.mlp."


def without(*words: str) -> Change:
    """Tensors whose name holds one of the words are gone."""

    def change(tensors: Tensors, config: Config) -> None:
        before = len(tensors)
        for name in [name for name in tensors if any(word in name for word in words)]:
            del tensors[name]
        assert len(tensors) < before

    return change


def cut(name: str, rows: int) -> Change:
    """A tensor keeps its first rows only."""

    def change(tensors: Tensors, config: Config) -> None:
        tensors[name] = tensors[name][:rows]

    return change


def flat(name: str) -> Change:
    """A matrix has become a vector."""
    return lambda tensors, config: tensors.update({name: tensors[name][0]})


def fewer(layer: str) -> Change:
    """One layer has an expert less, router included."""

    def change(tensors: Tensors, config: Config) -> None:
        without(f"{layer}mlp.experts.7.")(tensors, config)
        cut(f"{layer}mlp.gate.weight", 7)(tensors, config)

    return change


def renamed(old: str, new: str) -> Change:
    def change(tensors: Tensors, config: Config) -> None:
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def says(**keys: Any) -> Change:
    return lambda tensors, config: (config.get("text_config") or config).update(keys)


def with_one(name: str, shape: tuple[int, ...] = (2, 2)) -> Change:
    return lambda tensors, config: tensors.update({name: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("qwen3_moe", says(model_type="mamba"), "model family `mamba` is not supported"),
        ("qwen3_moe", lambda t, c: c.pop("model_type"), "config.json has no `model_type`"),
        ("qwen3_moe", lambda t, c: c.pop("num_hidden_layers"), "config.json lacks `num_hidden_layers`"),
        ("qwen3_moe", lambda t, c: c.pop("num_experts_per_tok"), "config.json lacks `num_experts_per_tok`"),
        ("qwen3_moe", says(hidden_size="32"), "`hidden_size` should be a whole number, found '32'"),
        ("qwen3_moe", lambda t, c: t.clear() or t.update(a=np.ones(1, np.float32)), "lacks `model.embed_tokens.weight`"),
        ("qwen3_moe", renamed("model.", ""), "lacks `model.embed_tokens.weight`"),
        ("qwen3_moe", flat("model.embed_tokens.weight"), "lacks `model.embed_tokens.weight`"),
        ("qwen3_moe", without("layers.1."), "lacks layer 1 of 3"),
        ("qwen3_moe", without("layers.2."), "lacks layer 2 of 3"),
        ("qwen3_moe", without("layers."), "lacks layer 0 of 3"),
        ("qwen3_moe", without("layers.1.mlp"), "layer 1: lacks its feed-forward or experts"),
        ("qwen3_moe", says(num_hidden_layers=2), "has a layer 2, but config.json says `num_hidden_layers: 2`"),
        ("qwen3_moe", says(num_hidden_layers=10**12), "lacks layer 3 of"),
        ("qwen3_moe", without("layers.1.mlp.gate."), "layer 1: lacks its router"),
        ("qwen3_moe", without("layers.1.mlp.experts."), "layer 1: lacks its feed-forward or experts"),
        ("qwen3_moe", without("experts.5.up_proj"), "no `up_proj` of expert 5 of `model.layers.0.mlp.experts.gate_up_proj`"),
        ("qwen3_moe", without("layers.1.mlp.experts.5."), "no expert 5 of `model.layers.1.mlp.experts."),
        ("qwen3_moe", without("1.mlp.experts.7."), "router has shape (8, 32), but for 7 experts it should be (7, 32)"),
        ("qwen3_moe", without("2.mlp.experts.3.down"), "no expert 3 of `model.layers.2.mlp.experts.down_proj`"),
        ("qwen3_moe", without("up_proj"), "no `up_proj` of expert 0"),
        ("qwen3_moe", without("down_proj"), "layer 0: lacks its experts.down_proj"),
        ("qwen3_moe", cut(EXPERT.format(3, "up"), 5), "`model.layers.1.mlp.experts.3.up_proj.weight` has shape (5, 32)"),
        ("qwen3_moe", cut("model.layers.1.mlp.gate.weight", 7), "layer 1: its router has shape (7, 32)"),
        ("qwen3_moe", with_one(EXPERT.format(8, "gate"), (12, 32)), "no `up_proj` of expert 8"),
        ("qwen3_moe", with_one("model.layers.1.mlp.experts.0.gate_proj.weight_scale"), "has an unknown tensor experts."),
        ("qwen3_moe", with_one("model.layers.1.mlp.experts.gate_up_proj", (8, 24, 32)), "are the same tensor"),
        ("qwen3_moe", says(num_local_experts=6), "has 8 experts a layer, but config.json says `num_local_experts: 6`"),
        ("qwen3_moe", says(num_experts=16), "has 8 experts a layer, but config.json says `num_experts: 16`"),
        ("qwen3_moe", says(num_experts_per_tok=9), "has 8 experts a layer, but config.json says `num_experts_per_tok: 9`"),
        ("qwen3_moe", without("lm_head"), "lacks `lm_head.weight`, and config.json says `tie_word_embeddings: false`"),
        ("qwen3_moe", says(tie_word_embeddings=True), "but `lm_head.weight` differs from `model.embed_tokens.weight`"),
        ("qwen3_moe", lambda t, c: t.update(a=np.arange(3)), "`a` has type I64"),
        ("qwen3_moe", without("experts", "gate"), "layer 0: lacks its feed-forward or experts"),
        ("qwen3_moe", with_one("score.weight"), "`score.weight` is no tensor of a `qwen3_moe`"),
        ("qwen3_moe", with_one("a"), "`a` is no tensor of a `qwen3_moe`"),
        ("qwen2_moe", fewer("model.layers.2."), "layer 2: has 7 experts, the layers before it 8"),
        ("llama", says(model_type="qwen3_moe"), "has no routed experts"),
        ("qwen3_moe", says(model_type="qwen3"), "has routed experts, which a dense `qwen3` has not"),
        ("deepseek_v3", without("2.mlp.gate.e_score_correction_bias"), "layer 2: lacks its selection bias"),
        ("deepseek_v3", cut("model.layers.2.mlp.gate.e_score_correction_bias", 7), "selection bias has shape (7,) for 8"),
        ("deepseek_v3", with_one("model.layers.3.input_layernorm.weight"), "has a layer 3"),
        ("hunyuan_v1_moe", says(moe_topk=[2, 2, 1]), "`moe_topk` differs by layer: [2, 2, 1]"),
        ("qwen3_vl_moe", without("layers.1.mlp.experts.down_proj"), "layer 1: lacks its experts.down_proj"),
        ("qwen3_vl_moe", cut("model.language_model.layers.1.mlp.experts.down_proj", 7), "for 7 experts it should be"),
        ("ernie4_5_vl_moe", without("layers.1.mlp.experts.3."), "no expert 3 of `model.language_model.layers.1.mlp.text_moe"),
        (
            "ernie4_5_vl_moe",
            without("layers.1.mlp.experts.11."),
            "no expert 3 of `model.language_model.layers.1.mlp.vision_moe",
        ),
        (
            "ernie4_5_vl_moe",
            without("layers.1.mlp.experts.15."),
            "layer 1, vision_moe: its router has shape (8, 32), but for 7",
        ),
        ("ernie4_5_vl_moe", without("gate.weight_1"), "layer 1, vision_moe: lacks its router"),
        ("ernie4_5_vl_moe", without("moe_statics"), "layer 1, text_moe: lacks its selection bias"),
        ("ernie4_5_vl_moe", cut(f"{ERNIE}moe_statics.e_score_correction_bias", 1), "expected 2 rows"),
        ("ernie4_5_vl_moe", flat(f"{ERNIE}gate.weight"), "expected a matrix"),
        (
            "ernie4_5_vl_moe",
            renamed("model.norm.", "model.language_model.norm."),
            "is not a name that files of `ernie4_5_vl_moe`",
        ),
        ("ernie4_5_vl_moe", renamed("model.vision_model.ln.", "vision_model.ln."), "is no tensor of a `ernie4_5_vl_moe`"),
        ("ernie4_5_vl_moe", says(moe_num_experts=[8, 4]), "`moe_num_experts` differs by layer: [8, 4]"),
        ("ernie4_5_vl_moe", says(moe_num_experts=0), "experts.10.down_proj.weight` has shape (32, 8)"),
        (
            "ernie4_5_vl_moe",
            with_one("model.language_model.layers.1.mlp.text_moe.gate.weight", (8, 32)),
            "are the same tensor",
        ),
    ],
)
def test_parts_that_do_not_fit(written: Written, tmp_path: Path, family: str, change: Change, message: str) -> None:
    folder = files.changed(written(family), tmp_path / "changed", change)
    with pytest.raises(UserError) as caught:
        read_backbone(open_checkpoint(str(folder)))
    assert message in caught.value.message
    assert caught.value.message.startswith(f"{folder}: ")
    assert caught.value.exit_code == 2


def test_supported_families_are_named(written: Written, tmp_path: Path) -> None:
    folder = files.changed(written("olmoe"), tmp_path / "changed", says(model_type="mixtral"))
    with pytest.raises(UserError, match="not supported") as caught:
        read_backbone(open_checkpoint(str(folder)))
    assert "qwen3_moe" in str(caught.value.help)
    assert "to upcycle: llama, olmo2" in str(caught.value.help)


def test_a_tied_head_may_be_stored_twice(written: Written, tmp_path: Path) -> None:
    def twice(tensors: Tensors, config: Config) -> None:
        config["tie_word_embeddings"] = True
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    folder = files.changed(written("qwen2"), tmp_path / "twice", twice, shards=2)
    backbone = read_backbone(open_checkpoint(str(folder)))
    assert backbone.tied
    assert "lm_head.weight" not in backbone.tensors
    assert "lm_head.weight" not in backbone.layout.disk


def test_a_silent_config_is_tied_when_there_is_no_head(written: Written, tmp_path: Path) -> None:
    for change, tied in ((lambda t, c: c.pop("tie_word_embeddings"), False), (without("lm_head"), True)):
        folder = files.changed(written("qwen2"), tmp_path / str(tied), change)
        tensors, config = files.read(folder)
        config.pop("tie_word_embeddings", None)
        assert read_backbone(open_checkpoint(str(files.write(folder, tensors, config)))).tied == tied


def predicting(prefix: str) -> Change:
    """A layer that predicts the token after the next, as DeepSeek-V3 and GLM-4.5 keep it after their last layer."""

    def change(tensors: Tensors, config: Config) -> None:
        last = f"{prefix}.layers.2."
        for name in [name for name in tensors if name.startswith(last)]:
            tensors[name.replace(last, f"{prefix}.layers.3.")] = tensors[name]
        for name, shape in (("eh_proj", (32, 64)), ("enorm", (32,)), ("hnorm", (32,)), ("shared_head.head", (300, 32))):
            tensors[f"{prefix}.layers.3.{name}.weight"] = np.ones(shape, np.float32)

    return change


def with_mtp(tensors: Tensors, config: Config) -> None:
    for name in ("mtp.fc.weight", "mtp.layers.0.mlp.experts.0.up_proj.weight", "mtp.norm.weight"):
        tensors[name] = np.ones((4, 4), np.float32)


def with_frequencies(tensors: Tensors, config: Config) -> None:
    for layer in range(3):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("family", "change", "left_out"),
    [
        ("deepseek_v3", predicting("model"), ("model.layers.3",)),
        ("glm4_moe", predicting("model"), ("model.layers.3",)),
        ("glm4v_moe", predicting("model.language_model"), ("model.language_model.layers.3",)),
        ("qwen3_5_moe", with_mtp, ("mtp",)),
        ("llama", with_frequencies, ("rotary_emb.inv_freq",)),
    ],
)
def test_what_transformers_does_not_build_is_left_out_and_named(
    written: Written, tmp_path: Path, family: str, change: Change, left_out: tuple[str, ...]
) -> None:
    folder = files.changed(written(family), tmp_path / "more", change)
    backbone, plain = (read_backbone(open_checkpoint(str(f))) for f in (folder, written(family)))
    assert backbone.left_out == left_out
    assert plain.left_out == ()
    assert backbone.tensors == plain.tensors
    assert backbone.layout.slots == plain.layout.slots


def test_lists_with_one_value_a_layer(written: Written, tmp_path: Path) -> None:
    folder = files.changed(written("hunyuan_v1_moe"), tmp_path / "lists", says(moe_topk=[2, 2, 2], num_experts=[8, 8, 8]))
    assert read_backbone(open_checkpoint(str(folder))).top_k == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("family", ["deepseek_v3", "ernie4_5_vl_moe", "qwen3_vl_moe"])
def test_no_config_and_no_shape_is_a_crash(written: Written, tmp_path: Path, family: str, data: st.DataObject) -> None:
    """Any value under any key, any tensor lost or of another shape or name: read, or refused with a message."""
    tensors, config = files.read(written(family))
    part = data.draw(st.sampled_from([config, config.get("text_config") or config]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    name = data.draw(st.sampled_from(sorted(tensors)))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
    if data.draw(st.booleans()):
        tensors[name] = np.zeros(shape, np.float32)
    if data.draw(st.booleans()):
        tensors[data.draw(st.sampled_from([name.replace("1", "2"), name.replace("0", "9"), "a", "a.b", name + ".c"]))] = (
            tensors.pop(name)
        )
    try:
        backbone = read_backbone(open_checkpoint(str(files.write(tmp_path / "fuzz", tensors, config))))
    except UserError:
        return
    assert backbone.hidden_size == 32
    assert backbone.layers == 3
    assert 0 <= backbone.top_k <= min(backbone.pool_sizes)


def test_nothing_of_a_checkpoint_is_unaccounted_for(written: Written) -> None:
    """Every tensor on disk is in the layout; what is not is named in `left_out` or the second copy of a tied head."""
    for family in ("qwen3_moe", "ernie4_5_vl_moe"):
        folder = written(family)
        layout = read_backbone(open_checkpoint(str(folder))).layout
        assert set(layout.disk) == set(load_file(folder / "model.safetensors"))

"""Renaming between disk and memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.families import ANATOMIES, Anatomy, OnDisk
from smoe_cli.families.names import disk_name, memory_names

ERNIE = ANATOMIES["ernie4_5_vl_moe"]


@pytest.mark.parametrize(
    ("disk", "memory"),
    [
        ("model.layers.12.mlp.gate.weight", ["model.language_model.layers.12.mlp.text_moe.gate.weight"]),
        ("model.layers.12.mlp.gate.weight_1", ["model.language_model.layers.12.mlp.vision_moe.gate.weight"]),
        (
            "model.layers.3.mlp.moe_statics.e_score_correction_bias",
            [
                "model.language_model.layers.3.mlp.text_moe.gate.moe_statics.e_score_correction_bias",
                "model.language_model.layers.3.mlp.vision_moe.gate.moe_statics.e_score_correction_bias",
            ],
        ),
        ("model.layers.0.mlp.gate_proj.weight", ["model.language_model.layers.0.mlp.gate_proj.weight"]),
        ("model.norm.weight", ["model.language_model.norm.weight"]),
        ("model.vision_model.blocks.0.norm1.weight", ["model.vision_tower.blocks.0.norm1.weight"]),
        ("model.resampler_model.spatial_linear.3.bias", ["model.resampler_model.spatial_linear.ln.bias"]),
        ("model.resampler_model.spatial_linear.30.bias", ["model.resampler_model.spatial_linear.30.bias"]),
        ("model.resampler_model.after_norm.weight", ["model.resampler_model.after_norm.weight"]),
        ("lm_head.weight", ["lm_head.weight"]),
    ],
)
def test_ernie(disk: str, memory: list[str]) -> None:
    assert [name for name, _ in memory_names(disk, ERNIE)] == memory
    assert [disk_name(name, ERNIE)[0] for name in memory] == [disk] * len(memory)


def test_a_rule_says_how_the_tensor_lies() -> None:
    assert [(rule.swap, rule.row) for _, rule in memory_names("model.layers.1.mlp.gate.weight", ERNIE)] == [(True, None)]
    statics = memory_names("model.layers.1.mlp.moe_statics.e_score_correction_bias", ERNIE)
    assert [(rule.swap, rule.row) for _, rule in statics] == [(False, 0), (False, 1)]


def test_a_dot_is_a_dot() -> None:
    """Patterns are no regular expressions."""
    anatomy = Anatomy(on_disk=(OnDisk("a.#.b.", "c.#."),))
    assert memory_names("a.1.b.x", anatomy)[0][0] == "c.1.x"
    assert memory_names("a.1xb.x", anatomy)[0][0] == "a.1xb.x"
    assert memory_names("a.1.b.", anatomy)[0][0] == "a.1.b."
    assert memory_names("za.1.b.x", anatomy)[0][0] == "za.1.b.x"


@given(st.sampled_from(sorted(ANATOMIES)), st.text("abc.0123#_\\", max_size=12))
def test_names_without_rules_stay(family: str, name: str) -> None:
    if family != "ernie4_5_vl_moe":
        assert memory_names(name, ANATOMIES[family]) == [(name, OnDisk("", ""))]
        assert disk_name(name, ANATOMIES[family]) == (name, OnDisk("", ""))

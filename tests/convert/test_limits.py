"""Expert-group limits of an export: equal to the group's router, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_cli.convert.limits import part_limits
from smoe_cli.convert.options import Options
from smoe_cli.convert.symbiotic import to_symbiotic
from smoe_cli.convert.understanding import to_understanding
from smoe_cli.errors import UserError
from smoe_cli.plan import GroupPlan
from tests.convert.make import write_recipe
from tests.families.tiny import write_checkpoint


def convert(tmp_path: Path, select: Any, n_group: int = 4, topk_group: int = 2) -> Path:
    """12 experts in 4 parts of 3."""
    size = {"n_routed_experts": 12, "n_group": n_group, "topk_group": topk_group}
    checkpoint = write_checkpoint("deepseek_v3", tmp_path / "checkpoint", **size)
    count = len(select[0]) if isinstance(select[0], list) else len(select)
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": count, "select": select},
        {"name": "generation", "modalities": ["vae"], "experts": 12 - count},
    ]
    recipe = write_recipe(tmp_path / "recipe.yaml", "deepseek_v3", checkpoint, **{"model.groups": groups})
    to_symbiotic(recipe, tmp_path / "symbiotic", Options(verify="tensors"))
    return tmp_path / "symbiotic"


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], (3, 2)),  # whole parts
        ([0, 1, 2, 6, 7, 8], (1, 1)),  # as many parts as a token may use
        ([0, 1, 3, 5, 7, 8, 9, 10], (4, 2)),  # as many experts of each part
    ],
)
def test_equal_logits(tmp_path: Path, select: list[int], expected: tuple[int, int]) -> None:
    report = to_understanding(convert(tmp_path, select), tmp_path / "out", Options())
    assert report.check.difference == 0
    assert report.check.tokens > 100
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.n_group, config.topk_group) == expected


def test_unequal_shares_are_refused(tmp_path: Path) -> None:
    folder = convert(tmp_path, [0, 1, 2, 3, 4, 5, 6, 7, 9])
    with pytest.raises(UserError, match=r"cannot route as group `understanding` does: .* holds 3, 3, 2, 1 experts"):
        to_understanding(folder, tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_layers_must_agree() -> None:
    """One layer that could do with other limits than the next: a config holds them once."""
    from smoe_cli.families import Backbone

    backbone = Backbone(
        "deepseek_v3", {"n_group": 4, "topk_group": 2}, {"model.layers.0.mlp.experts.down_proj": torch.Size((12, 2, 2))}
    )
    whole, each = (0, 1, 2, 3, 4, 5, 6, 7, 8), (0, 1, 3, 4, 6, 7, 9, 10)
    group = GroupPlan("text", ("text",), (whole, whole))
    assert part_limits(backbone, group) == {"n_group": 3, "topk_group": 2}
    with pytest.raises(UserError, match="cannot route"):
        part_limits(backbone, replace(group, experts=(whole, each)))

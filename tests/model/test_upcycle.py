"""Upcycled models start as the dense one; mounted groups start as the group they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_cli.errors import UserError
from smoe_cli.model.build import build_model
from smoe_cli.model.routing import Routing
from smoe_cli.plan import compile_plan
from tests.families.tiny import DENSE_FAMILIES, write_checkpoint
from tests.helpers import tiny
from tests.model.conftest import Checkpoints
from tests.model.pretrained import decoder, plain, pretrained, tokens, upcycled

GROUPS: list[dict[str, Any]] = [
    {"name": "text", "modalities": ["text"], "experts": 3},
    {"name": "vit", "modalities": ["vit"], "experts": 3, "mount": {"group": "text"}},
    {"name": "vae", "modalities": ["vae"], "experts": 6, "mount": {"group": "text"}},
]
"""Rosetta's: three experts of the dense feed-forward, mounted once for `vit` and twice for `vae`."""


def mixed(length: int = 51) -> Routing:
    modality = torch.randint(0, 3, (length,), generator=torch.Generator().manual_seed(1))
    return Routing.of(modality, (0, 1, 2), 3)


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("kernel", ["grouped_mm", "eager"])
@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_an_upcycled_model_is_the_dense_one_at_step_0(checkpoint: Checkpoints, family: str, kernel: str, shared: int) -> None:
    """To float32 rounding, for tokens of every modality, whatever the routers choose."""
    folder = checkpoint(family)
    spec = {"experts": 3, "shared": shared, "top_k": 2, "router_std": 0.5}
    recipe = upcycled(folder, GROUPS, spec, **{"training.experts": kernel})
    (model, plan), reference = decoder(recipe), plain(folder, recipe)
    ids = tokens()
    got = model(input_ids=ids, routing=mixed()).logits
    torch.testing.assert_close(got, reference(input_ids=ids).logits, rtol=1e-5, atol=2e-6)
    assert ("shared" in plan.roles) == bool(shared)


def test_magnitudes_are_preserved(checkpoint: Checkpoints) -> None:
    """Copies of gate and up; the output matrix of each of two copies on a token's way divided by two."""
    folder = checkpoint("llama")
    recipe = upcycled(folder, GROUPS[:1], {"experts": 3})
    (model, _), dense = decoder(recipe), plain(folder, recipe).model.layers[1].mlp
    block = model.model.layers[1].mlp
    for expert in range(3):
        both = torch.cat([dense.gate_proj.weight, dense.up_proj.weight])
        assert torch.equal(block.experts["text"].gate_up_proj[expert], both)
        assert torch.equal(block.experts["text"].down_proj[expert], dense.down_proj.weight / 2)
    assert torch.equal(block.shared_expert.down_proj.weight, dense.down_proj.weight / 2)


@torch.no_grad()
def test_routers_are_drawn_as_declared(checkpoint: Checkpoints) -> None:
    """A function of the seed and the layer; std as declared; mounted rows equal those of their source."""
    folder = checkpoint("qwen3")
    big: list[dict[str, Any]] = [{**GROUPS[0], "experts": 200}, {**GROUPS[2], "experts": 400}]
    spec = {"experts": 200, "router_std": 0.3}
    model, again, other = (decoder(upcycled(folder, big, spec, seed=seed))[0] for seed in (5, 5, 6))
    first, second = (model.model.layers[i].mlp.router["text"].weight for i in (0, 1))
    assert float(first.std()) == pytest.approx(0.3, rel=0.03)
    assert not torch.equal(first, second)
    assert torch.equal(first, again.model.layers[0].mlp.router["text"].weight)
    assert not torch.equal(first, other.model.layers[0].mlp.router["text"].weight)
    assert torch.equal(model.model.layers[0].mlp.router["vae"].weight, torch.cat([first, first]))


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "deepseek_v3", "scratch"])
def test_mounted_groups_are_copies_and_noise_lets_twins_part(checkpoint: Checkpoints, family: str) -> None:
    def block(noise: float) -> Any:
        if family == "llama":
            groups = [GROUPS[0], {**GROUPS[2], "mount": {"group": "text", "noise": noise}}]
            recipe = upcycled(checkpoint(family), groups, {"experts": 3})
        elif family == "scratch":
            mount = {"group": "understanding", "noise": noise}
            groups = [
                {"name": "understanding", "modalities": ["text", "vit"], "experts": 6},
                {"name": "generation", "modalities": ["vae"], "experts": 12, "mount": mount},
            ]
            return build_model(recipe := tiny(**{"model.groups": groups}), compile_plan(recipe)).backbone.model.layers[1].mlp
        else:
            groups = [
                {"name": "text", "modalities": ["text", "vit"], "experts": 8},
                {"name": "vae", "modalities": ["vae"], "experts": 16, "mount": {"group": "text", "noise": noise}},
            ]
            recipe = pretrained(checkpoint(family), groups)
        return decoder(recipe)[0].model.layers[2].mlp

    exact, noisy, again = block(0.0), block(0.1), block(0.1)
    first, mounted = exact.router
    for kind in ("router", "experts"):
        for name, source in getattr(exact, kind)[first].named_parameters():
            twice = torch.cat([source, source])
            assert torch.equal(twice, dict(getattr(exact, kind)[mounted].named_parameters())[name])
            got = dict(getattr(noisy, kind)[mounted].named_parameters())[name]
            assert torch.equal(got, dict(getattr(again, kind)[mounted].named_parameters())[name])
            assert float((got - twice).std() / twice.std()) == pytest.approx(0.1, rel=0.25)
            half = len(got) // 2
            assert not torch.equal(got[:half], got[half:])
            assert torch.equal(source, dict(getattr(noisy, kind)[first].named_parameters())[name])
    for name, buffer in exact.router[mounted].named_buffers():
        if name == "e_score_correction_bias":
            assert torch.equal(buffer, dict(noisy.router[mounted].named_buffers())[name])


def test_a_mounted_group_computes_what_its_source_does(checkpoint: Checkpoints) -> None:
    """One copy, no noise: `vae` tokens get what `text` tokens get."""
    folder = checkpoint("glm4_moe")
    groups = [
        {"name": "text", "modalities": ["text", "vit"], "experts": 8},
        {"name": "vae", "modalities": ["vae"], "experts": 8, "mount": {"group": "text"}},
    ]
    model, _ = decoder(pretrained(folder, groups))
    ids = tokens()
    results = [
        model(input_ids=ids, routing=Routing.of(torch.full((51,), modality), (0, 0, 1), 2)).logits for modality in (0, 2)
    ]
    assert torch.equal(*results)


def test_feed_forwards_with_biases_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path / "biased", mlp_bias=True)
    with pytest.raises(UserError, match="bias"):
        decoder(upcycled(folder, GROUPS, {"experts": 3}))

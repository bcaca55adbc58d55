"""Promoted experts: the rule against the plain model, and shields on always-on experts of every kind (promise 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_cli.model.routing import Routing, RowShield
from smoe_cli.model.shield import Shielding
from smoe_cli.plan import Plan, Source
from smoe_cli.plan.profile import Profile
from smoe_cli.recipe.models import Recipe
from tests.model.conftest import Checkpoints
from tests.model.pretrained import decoder, gradient_pairs, plain, pretrained, tokens

PROMOTED = ((2, 5), (0, 7), (1, 2))
"""The most used experts of each layer."""
TOP_4 = {"num_experts_per_tok": 4}


def profiled(recipe: Recipe) -> Source:
    """A profile in which exactly PROMOTED are used most."""
    source = Source.read(recipe)
    counts = tuple(tuple(9 if e in layer else 1 for e in range(8)) for layer in PROMOTED)
    mass = tuple(tuple(float(n) for n in layer) for layer in counts)
    backbone = source.backbone
    profile = Profile(
        backbone.family, backbone.sha256, backbone.moe_layers, 8, backbone.top_k, {"text": 1}, {"text": counts}, {"text": mass}
    )
    return replace(source, profile=profile)


@pytest.fixture(scope="module", params=["qwen3_moe", "olmoe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Families without shared experts: one rescales the weights of the chosen experts, one does not."""
    from tests.families.tiny import write_checkpoint

    return write_checkpoint(request.param, tmp_path_factory.mktemp("promoted") / request.param, **TOP_4)


def promoted(folder: Path, kernel: str = "grouped_mm", split: bool = True, **shared: Any) -> tuple[nn.Module, Plan, Recipe]:
    groups: list[dict[str, Any]] = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 6}]
    if split:
        groups = [
            {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": "first"},
            {"name": "generation", "modalities": ["vae"], "experts": 2},
        ]
    changes = {"model.shared": {"promote": 2, **shared}, "model.profile": "profile.json", "training.experts": kernel}
    recipe = pretrained(folder, groups, **changes)
    model, plan = decoder(
        recipe, profiled(recipe.model_copy(update={"model": recipe.model.model_copy(update={"profile": None})}))
    )
    return model, plan, recipe


def promote_in_plain(reference: nn.Module, plan: Plan, group_T: Tensor) -> None:
    """The plain routers choose the promoted experts always and the best of the rest; weights by the family's rule."""
    for number, layer in enumerate(reference.model.layers):
        layer.mlp.gate.forward = _rule(layer.mlp.gate, plan, number, group_T)


def _rule(router: nn.Module, plan: Plan, number: int, group_T: Tensor) -> Any:
    allowed_GE = torch.zeros(len(plan.groups), 8, dtype=torch.bool)
    for row, group in zip(allowed_GE, plan.groups, strict=True):
        row[[*group.experts[number], *plan.promoted[number]]] = True
    allowed_TE = allowed_GE[group_T]
    always = torch.tensor(plan.promoted[number])

    def forward(x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = F.linear(x_TD, router.weight).masked_fill(~allowed_TE, float("-inf"))
        probabilities = logits.softmax(-1)
        first = probabilities.index_fill(1, always, 2.0)  # more than any probability: always chosen
        ids = first.topk(plan.top_k + len(always), dim=-1)[1]
        weights = probabilities.gather(1, ids)
        if router.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights, ids

    return forward


@pytest.mark.parametrize("kernel", ["grouped_mm", "eager"])
@pytest.mark.parametrize("split", [False, True])
def test_promotion_equals_the_plain_model_that_always_chooses_them(folder: Path, kernel: str, split: bool) -> None:
    model, plan, recipe = promoted(folder, kernel, split)
    assert plan.promoted == PROMOTED
    assert plan.top_k == 2
    reference = plain(folder, recipe)
    modality = torch.randint(0, 3, (51,), generator=torch.Generator().manual_seed(1))
    group_of = (0, 0, 1) if split else (0, 0, 0)
    promote_in_plain(reference, plan, torch.tensor(group_of)[modality])
    ids = tokens()
    expected = reference(input_ids=ids, labels=ids)
    got = model(input_ids=ids, labels=ids, routing=Routing.of(modality, group_of, len(plan.groups)))
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    expected.loss.backward()
    got.loss.backward()
    pairs = list(gradient_pairs(model, plan, reference))
    assert sum(".promoted" in name for name, _, _ in pairs) == 9
    for name, ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_promoted_experts_have_the_role_shared(folder: Path) -> None:
    _, plan, _ = promoted(folder)
    assert {t.role for t in plan.tensors if ".promoted" in t.name} == {"shared"}


def test_modalities_that_do_not_receive_them_get_exactly_nothing(folder: Path) -> None:
    block = promoted(folder, modalities=["text", "vit"])[0].model.layers[0].mlp
    x, modality = torch.randn(1, 30, 32), torch.randint(0, 3, (30,))
    block.routing = Routing.of(modality, block.group_of, 2)
    before = block(x)
    block.promoted.down_proj.data.mul_(2)
    same = (block(x) == before).all(-1)[0]
    assert torch.equal(same, modality == 2)


# ----------------------------------------------------------------------------------------------------------- shields

FAMILIES = ["deepseek_v3", "glm4_moe", "hunyuan_v1_moe", "qwen2_moe"]
GROUPS: list[dict[str, Any]] = [
    {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": "first"},
    {"name": "generation", "modalities": ["vae"], "experts": 4},
]


def some_block(checkpoint: Checkpoints, folder: Path | None, family: str) -> Any:
    """The second layer's block, in float64 as far as its router lets it."""
    eager = {"training.experts": "eager"}  # the grouped kernel knows no float64
    model = promoted(folder, "eager")[0] if folder else decoder(pretrained(checkpoint(family), GROUPS, **eager))[0]
    return model.model.layers[1].mlp.double()


def gradients(block: Any, x: Tensor, modality: Tensor, shields: Sequence[RowShield]) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of its squares with respect to every parameter and the input."""
    block.routing = Routing.of(modality, block.group_of, 2, shields=tuple(shields))
    x = x.clone().requires_grad_()
    names, parameters = zip(*((n, p) for n, p in block.named_parameters() if p.requires_grad), strict=True)
    y = block(x)
    found = torch.autograd.grad(y.square().sum(), [*parameters, x])
    return y.detach(), dict(zip((*names, "input"), found, strict=True))


def shield(modality: Tensor, factor: float, mode: str) -> RowShield:
    return RowShield(mode, torch.ones(len(modality), 1, dtype=torch.double).masked_fill((modality == 2).unsqueeze(-1), factor))


def always_on(name: str) -> bool:
    return name.startswith(("shared_expert", "promoted"))


@pytest.fixture(params=[*FAMILIES, "promoted"])
def block(request: pytest.FixtureRequest, checkpoint: Checkpoints) -> Any:
    folder = request.getfixturevalue("one_promoted") if request.param == "promoted" else None
    return some_block(checkpoint, folder, request.param)


@pytest.fixture(scope="module")
def one_promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.families.tiny import write_checkpoint

    return write_checkpoint("qwen3_moe", tmp_path_factory.mktemp("shielded") / "qwen3_moe", **TOP_4)


def sample() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(1, 30, 32, generator=g, dtype=torch.double), torch.randint(0, 3, (30,), generator=g)


def test_shield_zero_equals_detaching_the_rows_exactly(block: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, modality = sample()
    value, got = gradients(block, x, modality, [shield(modality, 0.0, "path")])
    rows = (modality == 2).unsqueeze(-1)
    monkeypatch.setattr(Shielding, "output", lambda self, y: torch.where(rows, y.detach(), y))
    plain_value, expected = gradients(block, x, modality, [])
    assert torch.equal(value, plain_value)
    for name in expected:
        assert torch.equal(got[name], expected[name]), name


@pytest.mark.parametrize("mode", ["path", "weights"])
def test_a_partial_shield_mixes_cut_and_open(block: Any, mode: str) -> None:
    """gradient = (1 − s)·cut + s·open, for every parameter and the input; forward values never change."""
    x, modality = sample()
    values, found = zip(*(gradients(block, x, modality, [shield(modality, s, mode)]) for s in (0.0, 1.0, 0.3)), strict=True)
    assert all(torch.equal(v, values[0]) for v in values)
    cut, opened, mixed = found
    for name in cut:
        torch.testing.assert_close(mixed[name], 0.7 * cut[name] + 0.3 * opened[name], rtol=1e-5, atol=1e-9)
        if always_on(name):
            assert not torch.equal(cut[name], opened[name]), name
        elif name != "input" or mode == "weights":
            torch.testing.assert_close(cut[name], opened[name], rtol=1e-12, atol=1e-14)


def test_only_shielded_rows_are_cut(block: Any) -> None:
    """With every token shielded, nothing reaches what is always on."""
    x, _ = sample()
    modality = torch.full((30,), 2)
    _, got = gradients(block, x, modality, [shield(modality, 0.0, "path")])
    for name, gradient in got.items():
        assert bool(gradient.any()) != (always_on(name) or ".understanding." in name), name

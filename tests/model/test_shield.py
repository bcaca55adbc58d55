"""Promise 3: shields scale gradients as an explicit detach does, and never change the forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from smoe_cli.model.build import build_model
from smoe_cli.model.model import ActiveShield, SymbioticModel
from smoe_cli.model.shield import Shielding
from smoe_cli.plan import compile_plan
from tests.helpers import random_batch, tiny

VAE_ONLY = ("vae",)


def gradients(
    model: SymbioticModel, batch: dict[str, Tensor], shields: tuple[ActiveShield, ...], part: str = "both"
) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    out = model(batch, shields)
    loss = out.text_losses.sum() + out.flow_losses.sum() if part == "both" else out.flow_losses.sum()
    loss.backward()
    return loss.detach(), {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


@pytest.fixture
def model() -> SymbioticModel:
    recipe = tiny()
    built = build_model(recipe, compile_plan(recipe))
    assert built.latents is not None
    torch.nn.init.normal_(built.latents.proj_out.weight)  # out starts at zero, and would cut every gradient by itself
    return built


def detach_reference(model: SymbioticModel, modality_T: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain detach of the shielded rows of the shared experts' output, in every block."""
    rows = (modality_T == 2).unsqueeze(-1)
    monkeypatch.setattr(Shielding, "output", lambda self, y: torch.where(rows, y.detach(), y))


def test_shield_zero_equals_detaching_the_rows_exactly(model: SymbioticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(model.recipe)
    loss, got = gradients(model, batch, (ActiveShield("shared", VAE_ONLY, "path", 0.0),))
    detach_reference(model, batch["modality"].flatten(), monkeypatch)
    reference_loss, expected = gradients(model, batch, ())
    assert torch.equal(loss, reference_loss)
    for name in expected:
        assert torch.equal(got[name], expected[name]), name


def test_the_drawing_loss_still_reaches_shared_experts_through_captions(model: SymbioticModel) -> None:
    """Captions are text and stay open, as in the paper: only latent rows are cut."""
    _, flow_only = gradients(model, random_batch(model.recipe), (ActiveShield("shared", VAE_ONLY, "path", 0.0),), part="flow")
    # the last layer's text rows do not reach a latent any more: every later path is an attention layer that does not exist
    assert any(v.any() for n, v in flow_only.items() if "layers.0.mlp.shared_expert" in n)
    assert not any(v.any() for n, v in flow_only.items() if "layers.1.mlp.shared_expert" in n)


@pytest.mark.parametrize("mode", ["path", "weights"])
def test_a_partial_shield_mixes_cut_and_open(mode: str) -> None:
    """One shielded module: gradient = (1 − s)·cut + s·open, for its weights, and for its input as the mode says."""
    torch.manual_seed(0)
    mlp = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.SiLU(), torch.nn.Linear(9, 6)).double()
    x = torch.randn(10, 6, dtype=torch.double, requires_grad=True)
    target = torch.randn(10, 6, dtype=torch.double)
    rows = torch.arange(10) % 3 == 0

    def run(factor: float) -> list[Tensor]:
        from smoe_cli.model.routing import RowShield

        factors = torch.ones(10, 1, dtype=torch.double).masked_fill(rows.unsqueeze(-1), factor)
        shielding = Shielding((RowShield(mode, factors),))
        with shielding.inside():
            y = mlp(x)
        y = shielding.output(y)
        assert torch.equal(y, mlp(x))
        return list(torch.autograd.grad(((y - target) ** 2).sum(), [*mlp.parameters(), x]))

    cut, opened, mixed = run(0.0), run(1.0), run(0.3)
    for c, o, m in zip(cut, opened, mixed, strict=True):
        torch.testing.assert_close(m, 0.7 * c + 0.3 * o, rtol=1e-12, atol=1e-12)
    if mode == "weights":
        assert torch.equal(cut[-1], opened[-1])
    else:
        assert not cut[-1][rows].any()
        assert torch.equal(cut[-1][~rows], opened[-1][~rows])


def test_mode_weights_equals_the_two_pass_reference() -> None:
    """Reference: the input's gradient through detached weights, plus the weights' gradient through a detached input."""
    torch.manual_seed(0)
    mlp = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.SiLU(), torch.nn.Linear(9, 6, bias=False)).double()
    x = torch.randn(10, 6, dtype=torch.double, requires_grad=True)
    factors = torch.rand(10, 1, dtype=torch.double)
    from smoe_cli.model.routing import RowShield

    shielding = Shielding((RowShield("weights", factors),))
    with shielding.inside():
        y = mlp(x)
    got = torch.autograd.grad(y.square().sum(), [*mlp.parameters(), x])
    frozen = functional_call(mlp, {n: p.detach() for n, p in mlp.named_parameters()}, (x,))
    (to_input,) = torch.autograd.grad(frozen.square().sum(), [x])
    per_row = [torch.autograd.grad(mlp(x[i].detach()).square().sum(), list(mlp.parameters())) for i in range(10)]
    expected = [sum(factors[i] * per_row[i][j] for i in range(10)) for j in range(3)]
    for g, e in zip(got, [*expected, to_input], strict=True):
        torch.testing.assert_close(g, e, rtol=1e-10, atol=1e-12)


def test_forward_values_never_change(model: SymbioticModel) -> None:
    batch = random_batch(model.recipe)
    plain = model(batch)
    for mode in ("path", "weights"):
        for factor in (0.0, 0.1):
            out = model(batch, (ActiveShield("shared", ("vae", "vit"), mode, factor),))
            assert torch.equal(out.text_losses, plain.text_losses)
            assert torch.equal(out.flow_losses, plain.flow_losses)


def test_an_open_shield_is_no_shield(model: SymbioticModel) -> None:
    batch = random_batch(model.recipe)
    _, expected = gradients(model, batch, ())
    _, got = gradients(model, batch, (ActiveShield("shared", VAE_ONLY, "path", 1.0),))
    assert all(torch.equal(got[n], expected[n]) for n in expected)


def test_two_shields_multiply(model: SymbioticModel) -> None:
    batch = random_batch(model.recipe)
    half = ActiveShield("shared", VAE_ONLY, "path", 0.5)
    _, twice = gradients(model, batch, (half, half))
    _, once = gradients(model, batch, (ActiveShield("shared", VAE_ONLY, "path", 0.25),))
    for name in once:
        torch.testing.assert_close(twice[name], once[name], rtol=1e-5, atol=1e-6)

"""What must hold on a CUDA device too. Run with `just test-gpu` or `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

from smoe_cli.model.build import build_model
from smoe_cli.model.model import ActiveShield, SymbioticModel
from smoe_cli.plan import compile_plan
from tests.helpers import random_batch, tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

SHIELDS = (ActiveShield("shared", ("vae",), "path", 0.1),)


def built() -> SymbioticModel:
    recipe = tiny()
    model = build_model(recipe, compile_plan(recipe))
    assert model.latents is not None
    torch.manual_seed(1)
    torch.nn.init.normal_(model.latents.proj_out.weight, std=0.1)
    return model


def run(model: SymbioticModel, device: str, bf16: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = model.to(device)
    batch = {k: v.to(device) for k, v in random_batch(model.recipe).items()}
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        out = model(batch, SHIELDS)
    loss = out.text_losses.sum() / out.text_counts.sum() + out.flow_losses.sum() / out.flow_counts.sum()
    loss.backward()
    return loss.detach().cpu(), {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}


def test_float32_equals_the_cpu() -> None:
    expected, gradients = run(built(), "cpu")
    loss, got = run(built(), "cuda")
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    assert gradients.keys() == got.keys()
    for name in gradients:
        torch.testing.assert_close(got[name], gradients[name], rtol=1e-2, atol=1e-4)


def test_bfloat16_is_close() -> None:
    expected, _ = run(built(), "cpu")
    loss, got = run(built(), "cuda", bf16=True)
    torch.testing.assert_close(loss, expected, rtol=3e-2, atol=3e-2)
    assert all(torch.isfinite(g).all() for g in got.values())


def test_a_group_without_tokens_has_a_gradient_of_exactly_zero() -> None:
    """With memory that held other values before: a kernel that leaves rows unwritten would show."""
    del (dirty := {"x": torch.randn(64, 1024, 1024, device="cuda")})["x"]
    model = built().to("cuda")
    batch = {k: v.to("cuda") for k, v in random_batch(model.recipe).items()}
    text = {**batch, "modality": torch.zeros_like(batch["modality"]), "image": torch.full_like(batch["image"], -1)}
    for key in ("vit_pixels", "vae_pixels", "timestep", "noise", "vae_source"):
        text[key] = batch[key][:0]
    model(text).text_losses.sum().backward()
    for name, parameter in model.named_parameters():
        if ".generation." in name:
            assert parameter.grad is not None
            assert not parameter.grad.any(), name
    assert not dirty

"""Promise 5, as far as one forward pass goes: packing, padding, activation checkpointing, interleaved forwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smoe_cli.model.build import build_model
from smoe_cli.model.latents import LatentInterface, noised, patchify, target_velocity, unpatchify
from smoe_cli.model.model import ActiveShield, SymbioticModel
from smoe_cli.plan import compile_plan
from tests.helpers import random_batch, tiny

SHIELDS = (ActiveShield("shared", ("vae",), "path", 0.1),)


def built(**changes: object) -> SymbioticModel:
    recipe = tiny(**changes)
    model = build_model(recipe, compile_plan(recipe))
    assert model.latents is not None
    torch.manual_seed(1)
    torch.nn.init.normal_(model.latents.proj_out.weight)
    return model


def loss_of(model: SymbioticModel, batch: dict[str, Tensor]) -> Tensor:
    out = model(batch, SHIELDS)
    balance = sum((s * torch.arange(1.0, len(s) + 1)).sum() for layer in out.routing for s in layer.prob_sums)
    return out.text_losses.sum() + out.flow_losses.sum() + balance


def gradients(model: SymbioticModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_activation_checkpointing_changes_nothing_even_when_forwards_interleave() -> None:
    plain, checkpointed = built(), built(**{"training.activation_checkpointing": True})
    plain.train()
    checkpointed.train()
    a, b = random_batch(plain.recipe, seed=1), random_batch(plain.recipe, seed=2)
    b = {k: v.roll(1, 0) for k, v in b.items()}
    for model in (plain, checkpointed):
        first, second = loss_of(model, a), loss_of(model, b)
        (first + second).backward()
    expected, got = gradients(plain), gradients(checkpointed)
    assert expected.keys() == got.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-5)


def test_statistics_are_counted_once_under_checkpointing() -> None:
    plain, checkpointed = built(), built(**{"training.activation_checkpointing": True})
    checkpointed.train()
    batch = random_batch(plain.recipe)
    expected, out = plain(batch), checkpointed(batch)
    before = [layer.counts_ME.clone() for layer in out.routing]
    (out.text_losses.sum() + out.flow_losses.sum()).backward()
    for layer, kept, reference in zip(out.routing, before, expected.routing, strict=True):
        assert torch.equal(layer.counts_ME, kept)
        assert torch.equal(kept, reference.counts_ME)


def test_padding_enters_no_statistic_and_no_loss() -> None:
    model = built()
    batch = random_batch(model.recipe)
    out = model(batch)
    valid = int((batch["document"] >= 0).sum())
    assert all(int(layer.counts_ME.sum()) == valid * 2 for layer in out.routing)
    longer = {
        k: torch.nn.functional.pad(v, (0, 9), value={"targets": -100, "document": -1, "image": -1, "source": -1}.get(k, 0))
        if k in ("input_ids", "targets", "modality", "document", "image", "source")
        else v
        for k, v in batch.items()
    }
    longer["position_ids"] = torch.nn.functional.pad(batch["position_ids"], (0, 0, 0, 9))
    longer["input_ids"][:, -9:] = 77  # whatever stands in padding
    again = model(longer)
    torch.testing.assert_close(again.text_losses, out.text_losses, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(again.flow_losses, out.flow_losses, rtol=1e-5, atol=1e-4)
    assert torch.equal(again.text_counts, out.text_counts)
    for one, other in zip(out.routing, again.routing, strict=True):
        assert torch.equal(one.counts_ME, other.counts_ME)


def split_documents(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The same documents, one row and one batch each."""
    token = [k for k in batch if batch[k].shape[:2] == batch["input_ids"].shape]
    parts, image = [], 0
    for row in range(batch["input_ids"].shape[0]):
        for document in range(int(batch["document"][row].max()) + 1):
            here = batch["document"][row] == document
            part = {k: batch[k][row][here][None] for k in token}
            part["document"] = torch.zeros_like(part["document"])
            vit, vae = bool((part["modality"] == 1).any()), bool((part["modality"] == 2).any())
            part["vit_pixels"] = batch["vit_pixels"][row : row + 1] if vit else batch["vit_pixels"][:0]
            for key in ("vae_pixels", "timestep", "noise", "vae_source"):
                part[key] = batch[key][image : image + 1] if vae else batch[key][:0]
            image += vae
            parts.append(part)
    return parts


def test_packed_equals_unpacked() -> None:
    """Losses, counts and gradients of packed rows equal those of one document at a time."""
    model = built()
    batch = random_batch(model.recipe)
    loss_of(model, batch).backward()
    packed, expected = model(batch), gradients(model)
    model.zero_grad(set_to_none=True)
    text, flow = torch.zeros(3), torch.zeros(3)
    for part in split_documents(batch):
        loss_of(model, part).backward()
        out = model(part)
        text += out.text_losses.detach()
        flow += out.flow_losses.detach()
    torch.testing.assert_close(text, packed.text_losses, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(flow, packed.flow_losses, rtol=1e-5, atol=1e-3)
    got = gradients(model)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-3, atol=2e-3)


def test_statistics_are_float32_under_autocast() -> None:
    model = built()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(random_batch(model.recipe))
    for layer in out.routing:
        for total, served in zip(layer.prob_sums, (0, 2), strict=True):
            assert total.dtype == torch.float32
            tokens = int(layer.counts_ME[:2].sum() if served == 0 else layer.counts_ME[2].sum()) / 2
            assert float(total.detach().sum()) == pytest.approx(tokens, rel=1e-5), "probabilities of a token add up to 1"


def test_hooks_of_one_group_are_not_those_of_another() -> None:
    block = built().backbone.model.layers[0].mlp
    block.experts["generation"].register_forward_hook(lambda *_: None)
    assert not block.experts["understanding"]._forward_hooks


def test_every_parameter_has_a_gradient_whatever_the_batch_holds() -> None:
    """Text only, no image to read, no image to draw: zero gradients, never missing ones."""
    model = built()
    for part in split_documents(random_batch(model.recipe))[:3]:
        model.zero_grad(set_to_none=True)
        loss_of(model, part).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_patches_round_trip() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(x, (4, 2)), (4, 2), (8, 12)), x)
    assert torch.equal(patchify(x, (4, 2))[0, 1], x[0, :, 0:4, 2:4].flatten())


def test_the_right_prediction_has_no_loss() -> None:
    """Whether the velocity or the image is predicted, and however small t is."""
    x0, noise = torch.randn(5, 3, 7), torch.randn(5, 3, 7)
    t = torch.tensor([0.001, 0.02, 0.2, 0.7, 1.0])
    x_t = noised(x0, noise, t)
    assert torch.equal(target_velocity(x0, noise, x_t, t, "velocity"), noise - x0)
    spec = tiny(**{"model.latents.prediction": "image"}).model.latents
    assert spec is not None
    interface = LatentInterface(spec, 32, 1e-6)
    interface.proj_out = torch.nn.Identity()  # type: ignore[assignment]
    interface.norm = torch.nn.Identity()  # type: ignore[assignment]
    predicted = interface.velocity(x0, x_t, t)
    torch.testing.assert_close(predicted, target_velocity(x0, noise, x_t, t, "image"), rtol=1e-5, atol=1e-5)
    large = t >= 0.05
    torch.testing.assert_close(predicted[large], (noise - x0)[large], rtol=1e-4, atol=1e-4)


def test_noising_ends_at_image_and_noise() -> None:
    x0, noise = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    assert torch.equal(noised(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(noised(x0, noise, torch.ones(2)), noise)


def test_building_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = built().state_dict(), built().state_dict()
    torch.manual_seed(5)
    recipe = tiny()
    build_model(recipe, compile_plan(recipe))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[k], two[k]) for k in one)

"""Multimodal families with their own eyes: at step 0 the model is the plain transformers model, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_cli.data.batch import Batch
from smoe_cli.data.documents import DocumentBuilder
from smoe_cli.model.mask import Layout, dense
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.nodes import VIT
from tests.families.tiny import MULTIMODAL_FAMILIES, TEXT_FAMILIES
from tests.model.conftest import Checkpoints
from tests.model.pretrained import gradient_pairs, plain
from tests.model.seeing import ERNIE, built, family_pixels, noise, picture, rows_of, seeing

FAMILIES = tuple(MULTIMODAL_FAMILIES)
ALL = (*TEXT_FAMILIES, *FAMILIES)


def questions(builder: DocumentBuilder, n: int = 2) -> Batch:
    """n rows, each with one image, a question and its answer."""
    return rows_of(builder, [[builder.mmu(picture(i), "what?", f"a{i}")] for i in range(n)])


def logits(model: SymbioticModel, batch: Batch) -> Tensor:
    """(B, S, V) of a batch without drawn images."""
    batch = {**batch, "noisy_latents": batch["noise"]}
    layout = model.layout(batch["document"], batch["image"], batch["modality"])
    hidden = model.decode(model.embed(batch), batch["position_ids"], layout, model.routing(batch["modality"]))
    return model.backbone.lm_head(hidden)


def family_inputs(model: SymbioticModel, family: str, batch: Batch, images: list) -> dict[str, Any]:
    """The same batch as the family's processor would hand it to the plain model, without positions and mask."""
    backbone = model.plan.source.backbone
    image = batch["modality"] == VIT
    inputs: dict[str, Any] = {
        "input_ids": torch.where(image, backbone.image_token, batch["input_ids"]),
        "mm_token_type_ids": image.int(),
        **family_pixels(family, images),
    }
    if family == ERNIE:  # its processor counts the tokens around an image as image tokens, for the experts
        framing = torch.isin(batch["input_ids"], torch.tensor(backbone.image_tokens))
        inputs["moe_mm_token_type_ids"] = (image | framing).int()
    return inputs


def causal(batch: Batch) -> Tensor:
    """The plain mask, (B, 1, S, S)."""
    document = batch["document"]
    return dense(Layout(document, torch.full_like(document, -1), torch.zeros_like(document, dtype=torch.bool)))


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_patchified_as_the_familys_processor_does(checkpoint: Checkpoints, family: str) -> None:
    """Bit for bit, and with another normalisation too."""
    from smoe_cli.model.pixels import Normalisation, flat_patches

    model, builder = built(seeing(checkpoint(family), family))
    pixels = questions(builder, 3)["vit_pixels"]
    images = [picture(i) for i in range(3)]
    geometry = model.plan.source.backbone.vision_geometry
    assert geometry is not None
    for settings, normalisation in (
        ({}, model.normalisation),
        ({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.2, 0.1]}, Normalisation((0.5, 0.4, 0.3), (0.5, 0.2, 0.1))),
        ({"do_normalize": False}, Normalisation.of({"do_normalize": False}, (0.5,) * 3, (0.5,) * 3)),
    ):
        assert normalisation is not None
        values, grid = flat_patches(normalisation(pixels), geometry)
        expected = family_pixels(family, images, **settings)
        assert torch.equal(values, expected["pixel_values"])
        assert torch.equal(grid, expected["image_grid_thw"])


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_the_familys(checkpoint: Checkpoints, family: str) -> None:
    """Two documents of different length and shape in a row, one of them packed behind the other."""
    model, builder = built(seeing(checkpoint(family), family))
    reference = plain(checkpoint(family), model.recipe)
    for question in ("", "a longer question"):
        batch = rows_of(builder, [[builder.mmu(picture(1), question, "yes")]])
        inputs = family_inputs(model, family, batch, [picture(1)])
        expected, _ = reference.model.get_rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
        )
        assert torch.equal(batch["position_ids"].permute(2, 0, 1), expected)
        assert batch["position_ids"][0].amax(0).tolist() == [len(batch["input_ids"][0]) - 1 - 3] * 3, "2 × 3 tokens take 3"


@pytest.mark.parametrize("choice", [None, "causal", "bidirectional"])
def test_images_to_understand_are_causal_by_default_and_drawn_ones_never(checkpoint: Checkpoints, choice: str | None) -> None:
    family = "glm4v_moe"
    model, builder = built(seeing(checkpoint(family), family, **{"model.image_attention": choice}))
    batch = rows_of(
        builder, [[builder.mmu(picture(0), "", "a"), builder.t2i(picture(1, (12, 8)), "b", 0.5, noise(builder, 0))]]
    )
    visible = dense(model.layout(batch["document"], batch["image"], batch["modality"]))[0, 0]
    for modality, both_ways in ((1, choice == "bidirectional"), (2, True)):
        here = (batch["modality"][0] == modality).nonzero().squeeze(1)
        inside = visible[here][:, here]
        assert inside.tril().equal(torch.ones_like(inside).tril())
        assert bool(inside.triu(1).any()) == both_ways
    drawn = (batch["modality"][0] == 2).nonzero().squeeze(1)
    assert not visible[drawn[-1] + 1, drawn].any(), "noisy latents are hidden from what follows"


def test_text_families_with_fresh_eyes_see_both_ways(checkpoint: Checkpoints) -> None:
    model, _ = built(seeing(checkpoint("qwen3_moe"), "qwen3_moe"))
    assert not model.causal_images
    assert not model.mrope
    assert model.plan.image_positions == "shared"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_group_equals_the_plain_model_on_images_bit_for_bit(checkpoint: Checkpoints, family: str, attention: str) -> None:
    """Logits, and the gradient of every parameter of decoder, encoder and projector."""
    folder = checkpoint(family)
    recipe = seeing(folder, family, **{"training.attention": attention, "model.latents": None})
    model, builder = built(recipe)
    reference = plain(folder, recipe)
    batch = questions(builder)
    inputs = family_inputs(model, family, batch, [picture(0), picture(1)])
    positions, _ = reference.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    visible = causal(batch)
    if attention == "eager":
        visible = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    expected = reference(**inputs, position_ids=positions, attention_mask=visible).logits
    got = logits(model.train(), batch)
    assert torch.equal(got, expected)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(0))
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    pairs = list(gradient_pairs(model.backbone, model.plan, reference))
    assert len({name for name, _, _ in pairs if "visual" in name or "vision_tower" in name}) > 10
    for name, ours, theirs in pairs:
        assert torch.equal(ours, theirs), name
    untouched = reference(**inputs).logits
    torch.testing.assert_close(got, untouched, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_text_equals_the_plain_model_bit_for_bit(checkpoint: Checkpoints, family: str) -> None:
    """In a model that can also see and draw: eyes and latent interface leave no trace."""
    folder = checkpoint(family)
    recipe = seeing(folder, family)
    model, builder = built(recipe)
    reference = plain(folder, recipe)
    batch = rows_of(builder, [[builder.lm("a line of text")], [builder.lm("another, of it")]])
    got = logits(model.train(), batch)
    expected = reference(input_ids=batch["input_ids"], attention_mask=causal(batch)).logits
    assert torch.equal(got, expected)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(0))
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    for name, ours, theirs in gradient_pairs(model.backbone, model.plan, reference):
        assert torch.equal(ours, theirs), name
    assert all(not p.grad.any() for p in model.latents.parameters() if p.grad is not None)  # type: ignore[union-attr]

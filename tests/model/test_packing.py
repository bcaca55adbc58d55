"""Promise 5 for every family: what a document costs, and teaches, does not depend on the documents beside it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smoe_cli.data.documents import Document, DocumentBuilder
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.recurrent import Documents
from tests.families.tiny import FAMILIES, MULTIMODAL_FAMILIES
from tests.model.conftest import Checkpoints
from tests.model.seeing import built, noise, picture, rows_of, seeing

Sums = tuple[Tensor, dict[str, Tensor]]


def documents(builder: DocumentBuilder) -> list[Document]:
    """A text, a question about a picture, a picture to draw, and again in another order and length."""

    def drawn(seed: int, caption: str | None) -> Document:
        return builder.t2i(picture(seed, (12, 8)), caption, 0.3 + 0.1 * seed, noise(builder, seed))

    return [
        builder.lm("some text"),
        builder.mmu(picture(1), "what?", "it"),
        drawn(2, "a caption"),
        drawn(3, None),
        builder.mmu(picture(4), "", "another"),
        builder.lm("t"),
    ]


def summed(model: SymbioticModel, batches: list[list[list[Document]]], builder: DocumentBuilder, length: int | None) -> Sums:
    """Losses and gradients added up over batches of rows of documents."""
    model.zero_grad()
    total = torch.zeros(2)
    for rows in batches:
        out = model(rows_of(builder, rows, length))
        losses = torch.stack([out.text_losses.sum(), out.flow_losses.sum()])
        losses.sum().backward()
        total += losses.detach()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return total, gradients


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_do_not_see_each_other(checkpoint: Checkpoints, family: str, checkpointing: bool) -> None:
    recipe = seeing(checkpoint(family), family, **{"training.activation_checkpointing": checkpointing})
    model, builder = built(recipe)
    model.train()
    parts = documents(builder)
    losses, gradients = summed(model, [[parts[:3], parts[3:]]], builder, 64)
    alone, expected = summed(model, [[[part]] for part in parts], builder, None)
    torch.testing.assert_close(losses, alone, rtol=1e-5, atol=1e-4)
    assert gradients.keys() == expected.keys(), "every parameter gets a gradient, whatever a batch holds"
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("family", FAMILIES)
def test_autocast_stays_near(checkpoint: Checkpoints, family: str) -> None:
    """As `training.precision: bf16` runs it. Grouped products need widths that these small experts do not have."""
    model, builder = built(seeing(checkpoint(family), family, **{"training.experts": "eager"}))
    parts = documents(builder)
    losses, _ = summed(model.train(), [[parts[:3], parts[3:]]], builder, 64)
    with torch.autocast("cpu", torch.bfloat16):
        near, gradients = summed(model, [[parts[:3], parts[3:]]], builder, 64)
    torch.testing.assert_close(near, losses, rtol=0.05, atol=0)
    assert not torch.equal(near, losses)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("family", MULTIMODAL_FAMILIES)
def test_a_batch_without_images_gives_its_own_eyes_a_gradient_of_zero(checkpoint: Checkpoints, family: str) -> None:
    """None would desynchronise ranks, and optimizer states."""
    model, builder = built(seeing(checkpoint(family), family))
    _, gradients = summed(model.train(), [[[builder.lm("only text")]]], builder, None)
    anatomy = model.plan.source.backbone.anatomy
    parts = (anatomy.vision, *anatomy.projector)
    eyes = [n for n, _ in model.backbone.named_parameters() if n.startswith(tuple(f"{part}." for part in parts))]
    assert len(eyes) > 10
    for name in eyes:
        assert not gradients[f"backbone.{name}"].any(), name


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=3))
def test_every_document_is_on_its_own(lengths: list[list[int]]) -> None:
    """Against a loop, with a layer in which every token counts for all that follow."""
    width = max(sum(row) for row in lengths) + 1
    document = torch.full((len(lengths), width), -1)
    for row, sizes in zip(document, lengths, strict=True):
        row[: sum(sizes)] = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = torch.randn(*document.shape, 2, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for row in range(len(lengths)):
        for number in range(len(lengths[row])):
            here = document[row] == number
            expected[row, here] = x[row, here].cumsum(0)
    apart = Documents.of(document)
    if apart is None:
        assert all(len(row) == 1 for row in lengths)
        return
    torch.testing.assert_close(apart.apply(lambda x_NLD: x_NLD.cumsum(1), x), expected)
    assert all(inside.float().mean() > 0.5 for _, inside in apart.buckets), "at most half is padding"


def test_documents_are_taken_apart_and_put_back() -> None:
    document = torch.tensor([[0, 0, 0, 1, 1, -1], [0, 1, 2, 2, 2, 2]])
    x = torch.arange(12.0).view(2, 6, 1) + 1
    apart = Documents.of(document)
    assert apart is not None
    shapes = [tuple(source_NL.shape) for source_NL, _ in apart.buckets]
    assert shapes == [(2, 1), (1, 2), (2, 4)], "documents of 1 and 1, 2, 3 and 4 tokens"
    sums = apart.apply(lambda x_NLD: x_NLD.cumsum(1), x)
    assert sums[..., 0].tolist() == [[1, 3, 6, 4, 9, 0], [7, 8, 9, 19, 30, 42]]
    assert Documents.of(torch.tensor([[0, 0, -1], [0, 0, 0]])) is None, "nothing to take apart"

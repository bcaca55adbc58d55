"""Samples to documents, against the page that defines them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.data.documents import Column, Document, DocumentBuilder, shifted_timestep
from smoe_cli.data.sample import BadRow
from smoe_cli.data.tokenizer import load_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.models import BytesTokenizer
from smoe_cli.recipe.nodes import VAE, VIT
from tests.helpers import tiny

from .make import picture

TOKENIZER = load_tokenizer(BytesTokenizer(kind="bytes"))
RECIPE = tiny()
PLAN = compile_plan(RECIPE)
BUILDER = DocumentBuilder(RECIPE, PLAN, TOKENIZER)
BOS, EOS, IMAGE, IMAGE_END, PAD = 1, 2, 3, 4, 0
NONE = -100
NOISE = np.ones((PLAN.vae_tokens, PLAN.latent_dim), np.float32)


def _ids(text: str) -> list[int]:
    return [5 + byte for byte in text.encode()]


def _column(document: Document, column: Column) -> list[int]:
    return document.columns[column].tolist()


def _sequential() -> DocumentBuilder:
    recipe = tiny(**{"model.image_positions": "sequential"})
    return DocumentBuilder(recipe, compile_plan(recipe), TOKENIZER)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_lm(text: str) -> None:
    document = BUILDER.lm(text)
    ids = [BOS, *_ids(text), EOS]
    assert _column(document, Column.IDS) == ids
    assert _column(document, Column.TARGETS) == [*ids[1:], NONE]
    assert _column(document, Column.POSITION) == list(range(len(ids)))
    assert set(_column(document, Column.MODALITY)) == {0}
    assert set(_column(document, Column.IMAGE)) == {-1}


@pytest.mark.parametrize("question", ["", "Which number?"])
def test_mmu(question: str) -> None:
    document = BUILDER.mmu(picture(), question, "42")
    asked = _ids(question + "\n") if question else []
    ids = [BOS, IMAGE, PAD, PAD, PAD, PAD, IMAGE_END, *asked, *_ids("42"), EOS]
    assert _column(document, Column.IDS) == ids
    assert _column(document, Column.TARGETS) == [*[NONE] * (6 + len(asked)), *_ids("42"), EOS, NONE]
    assert _column(document, Column.MODALITY) == [0, 0, *[VIT] * 4, *[0] * (len(ids) - 6)]
    assert _column(document, Column.IMAGE) == [-1, -1, 0, 0, 0, 0, *[-1] * (len(ids) - 6)]
    assert _column(document, Column.POSITION) == [0, 1, 2, 2, 2, 2, *range(3, 3 + len(ids) - 6)]
    assert [image.shape for image in document.seen] == [(3, 8, 16)]
    assert document.drawn == ()


@pytest.mark.parametrize("caption", ["a dog", "", None])
def test_t2i(caption: str | None) -> None:
    document = BUILDER.t2i(picture(), caption, 0.25, NOISE)
    written = _ids(caption or "")
    n = len(written)
    assert _column(document, Column.IDS) == [BOS, *written, IMAGE, *[PAD] * 4, IMAGE_END]
    assert set(_column(document, Column.TARGETS)) == {NONE}
    assert _column(document, Column.MODALITY) == [*[0] * (n + 2), *[VAE] * 4, 0]
    assert _column(document, Column.POSITION) == [*range(n + 2), *[n + 2] * 4, n + 3]
    (drawing,) = document.drawn
    assert (drawing.timestep, drawing.pixels.shape) == (0.25, (3, 8, 16))
    assert drawing.noise is NOISE


def test_sequential_positions_count_every_token() -> None:
    for document in (_sequential().mmu(picture(), "q", "a"), _sequential().t2i(picture(), "c", 0.5, NOISE)):
        assert _column(document, Column.POSITION) == list(range(len(document)))


def test_text_that_spells_a_special_token_is_text() -> None:
    text = "<image></image><eos>"
    for document in (BUILDER.mmu(picture(), text, text), BUILDER.t2i(picture(), text, 0.5, NOISE), BUILDER.lm(text)):
        ids = _column(document, Column.IDS)
        assert ids.count(IMAGE) == ids.count(IMAGE_END) == int(document.has_image)


@given(text=st.text("abc", min_size=1, max_size=30), data=st.data())
def test_a_cut_text_loses_nothing(text: str, data: st.DataObject) -> None:
    whole = BUILDER.lm(text)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=4)))
    parts, rest, done = [], whole, 0
    for cut in cuts:
        head, rest = rest.cut(cut - done)
        parts.append(head)
        done = cut
    parts.append(rest)
    joined = np.concatenate([part.columns for part in parts], axis=1)
    for column in (Column.IDS, Column.TARGETS, Column.MODALITY, Column.IMAGE):
        assert (joined[column] == whole.columns[column]).all()
    for part in parts:
        assert _column(part, Column.POSITION) == list(range(len(part)))


def test_invalid_unicode_is_a_bad_row() -> None:
    with pytest.raises(BadRow, match="not valid Unicode"):
        BUILDER.lm("broken \ud800")


def test_a_tokenizer_larger_than_the_vocabulary_is_refused() -> None:
    recipe = tiny(**{"model.backbone.scratch.vocab_size": 200})
    plan = compile_plan(recipe)
    with pytest.raises(UserError, match="the tokenizer has 261 tokens with the special ones, the model's vocabulary 200"):
        DocumentBuilder(recipe, plan, TOKENIZER)


def test_timesteps_are_logit_normal_and_shifted() -> None:
    normals = np.random.default_rng(0).standard_normal(4000)
    plain = np.array([shifted_timestep(x, 1.0) for x in normals])
    assert np.abs(np.log(plain / (1 - plain)) - normals).max() < 1e-6
    shifted = np.array([shifted_timestep(x, 3.0) for x in normals])
    assert np.abs(shifted - 3 * plain / (1 + 2 * plain)).max() < 1e-12
    assert shifted.mean() > plain.mean() + 0.15
    for extreme in (-60.0, 60.0):
        assert 0 < np.float32(shifted_timestep(extreme, 3.0)) < 1

"""Every family: answering and drawing with a key-value cache, batched with padding on the left, equal the same without."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from smoe_cli.data.batch import Batch
from smoe_cli.data.documents import Document, DocumentBuilder
from smoe_cli.data.special import tokenizer_of
from smoe_cli.model.inference import _prefill, answer, draw, timesteps
from smoe_cli.model.mask import Layout
from smoe_cli.model.model import Inputs, SymbioticModel
from smoe_cli.model.recurrent import restore, snapshot
from smoe_cli.recipe.models import Sampling
from tests.families.tiny import FAMILIES
from tests.model.conftest import Checkpoints
from tests.model.seeing import built, noise, picture, rows_of, seeing


def hidden_states(model: SymbioticModel, batch: Batch) -> Tensor:
    """(B, S, D) of whole documents, one a row, without a cache. `noisy_latents` has to be in the batch."""
    layout = model.layout(batch["document"], batch["image"], batch["modality"])
    return model.decode(model.embed(batch), batch["position_ids"], layout, model.routing(batch["modality"]))


def one(builder: DocumentBuilder, document: Document) -> Batch:
    """A document as a batch."""
    batch = rows_of(builder, [[document]])
    return {**batch, "noisy_latents": batch["noise"]}


@torch.inference_mode()
def slow_answer(model: SymbioticModel, builder: DocumentBuilder, seed: int, question: str, tokens: int) -> list[int]:
    """Greedy ids, each from the whole sequence as training lays it out."""
    ids: list[int] = []
    prompt = builder.to_answer(picture(seed), question)
    for _ in range(tokens):
        document = builder.mmu(picture(seed), question, "x" * len(ids))  # bytes: as many tokens as characters
        batch = one(builder, document)
        for key in ("input_ids", "modality", "image", "document", "position_ids"):
            batch[key] = batch[key][:, : len(prompt) + len(ids)]
        batch["input_ids"][0, len(prompt) :] = torch.tensor(ids)
        token = int(model.backbone.lm_head(hidden_states(model, batch)[0, -1]).argmax())
        if token == builder.special.eos:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_equal_recomputing_everything(checkpoint: Checkpoints, family: str) -> None:
    recipe = seeing(checkpoint(family), family)
    model, builder = built(recipe)
    model.eval()
    tokenizer = tokenizer_of(recipe, model.plan)
    questions = ["", "what?", "a longer question"]
    got = answer(model, tokenizer, [picture(i) for i in range(3)], questions, max_new_tokens=5)
    expected = [slow_answer(model, builder, i, q, 5) for i, q in enumerate(questions)]
    assert got == tokenizer.batch_decode(expected)
    assert len({tuple(ids) for ids in expected}) > 1, "the model should react to its input, or this test shows nothing"


@torch.inference_mode()
def slow_draw(model: SymbioticModel, builder: DocumentBuilder, prompt: str, sampling: Sampling, x: Tensor) -> Tensor:
    """(3, H, W) in [0, 255]; the model runs over the whole document at every step."""
    assert model.latents is not None

    def velocity(x_PV: Tensor, t: float, caption: str | None) -> Tensor:
        assert model.latents is not None
        document = builder.t2i(picture(0, (12, 8)), caption, t, noise(builder, 0))
        batch = {**one(builder, document), "noisy_latents": x_PV[None]}
        latents = hidden_states(model, batch)[batch["modality"] == 2]
        return model.latents.velocity(latents[None], x_PV[None], batch["timestep"])[0]

    for t, t_next in pairwise(timesteps(sampling.steps, sampling.shift).tolist()):
        v, free = velocity(x, t, prompt), velocity(x, t, None)
        x = x + (t_next - t) * (free + sampling.guidance * (v - free))
    return (model.latents.decode(x[None])[0] + 1) * 127.5


@pytest.mark.parametrize("family", FAMILIES)
def test_drawing_equals_recomputing_everything(checkpoint: Checkpoints, family: str) -> None:
    recipe = seeing(checkpoint(family), family)
    model, builder = built(recipe)
    model.eval()
    assert model.latents is not None
    torch.nn.init.normal_(model.latents.proj_out.weight, std=0.02)
    sampling = Sampling(steps=4, shift=2.0, guidance=2.0, guidance_interval=(0.0, 1.0))
    prompts = ["12", "a longer caption"]
    got = draw(model, tokenizer_of(recipe, model.plan), prompts, sampling, seed=3)
    for i, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(3 * 100_003 + i)
        x = torch.randn(builder.vae_tokens, builder.latent_dim, generator=generator)
        expected = slow_draw(model, builder, prompt, sampling, x).permute(1, 2, 0).numpy()
        assert np.abs(np.asarray(got[i]).astype(float) - expected).max() <= 0.75, "more than rounding to 8 bits"
    assert np.asarray(got[0]).std() > 5


def test_a_restored_cache_is_what_it_was(checkpoint: Checkpoints) -> None:
    """Recurrent states are written in place: a snapshot survives any number of steps."""
    from transformers import DynamicCache

    model, _ = built(seeing(checkpoint("qwen3_5_moe"), "qwen3_5_moe"))
    model.eval()
    cache = DynamicCache(config=model.backbone.config)

    def step(ids: list[int]) -> Tensor:
        embeds = model.backbone.get_input_embeddings()(torch.tensor([ids]))
        with torch.inference_mode():
            return model.decoder(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state

    step([5, 6, 7, 8])
    held = snapshot(cache)
    first = step([9, 10, 11])
    for ids in ([20], [30, 31, 32, 33]):
        restore(cache, held)
        step(ids)
    restore(cache, held)
    assert torch.equal(step([9, 10, 11]), first)
    assert not torch.equal(step([9, 10, 11]), first)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_hidden_states_with_a_cache_equal_those_without(checkpoint: Checkpoints, family: str) -> None:
    """Of every prompt of a padded batch, and of two tokens after it; greedy answers alone would hide small leaks."""
    recipe = seeing(checkpoint(family), family)
    model, builder = built(recipe)
    model.eval()
    prompts = [builder.to_answer(picture(i), "?" * (1 + 6 * i)) for i in range(3)]
    prompt, hidden = _prefill(model, prompts)
    text = torch.zeros(3, 1, dtype=torch.long)
    more = torch.tensor([[40, 50], [60, 70], [80, 90]])
    steps, layout, position = [hidden[:, -1:]], prompt.layout, prompt.next_position
    for column in more.T:
        layout = Layout.cat(layout, model.layout(torch.zeros_like(text), torch.full_like(text, -1), text))
        inputs = Inputs(model.backbone.get_input_embeddings()(column.unsqueeze(1)))
        steps.append(model.decode(inputs, position, layout, model.routing(text), prompt.cache))
        position = position + 1
    for row in range(3):
        n = len(prompts[row])
        batch = one(builder, builder.mmu(picture(row), "?" * (1 + 6 * row), "xx"))
        batch["input_ids"][0, n : n + 2] = more[row]
        whole = hidden_states(model, batch)[0, : n + 2]
        torch.testing.assert_close(hidden[row, -n:], whole[:n], rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(torch.cat(steps, 1)[row], whole[n - 1 :], rtol=1e-4, atol=2e-5)

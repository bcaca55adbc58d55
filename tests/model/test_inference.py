"""Answering and drawing with a key-value cache equal the same without one, and do not depend on the batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from smoe_cli.data.images import pixels
from smoe_cli.data.special import special_ids
from smoe_cli.data.tokenizer import TextEncoder, load_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.model.build import build_model
from smoe_cli.model.inference import answer, draw, timesteps
from smoe_cli.model.mask import Layout
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.routing import Routing
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.models import BytesTokenizer, Sampling
from tests.helpers import TINY, tiny

TOKENIZER = load_tokenizer(BytesTokenizer(kind="bytes"))
IDS, ENCODE = special_ids(TOKENIZER, tiny(), compile_plan(tiny())), TextEncoder(TOKENIZER)


@pytest.fixture(params=[("shared", "velocity"), ("sequential", "image")], ids="-".join)
def model(request: pytest.FixtureRequest) -> SymbioticModel:
    positions, prediction = request.param
    recipe = tiny(**{"model.image_positions": positions, "model.latents.prediction": prediction})
    built = build_model(recipe, compile_plan(recipe)).eval()
    torch.manual_seed(0)
    assert built.latents is not None
    torch.nn.init.normal_(built.latents.proj_out.weight, std=0.05)
    return built


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 16, 3), dtype=np.uint8))


def full_forward(model: SymbioticModel, batch: dict[str, Tensor], image: Tensor, noisy: Tensor, position: Tensor) -> Tensor:
    """Hidden states of one unpadded sequence, without any cache."""
    layout = Layout(torch.zeros_like(image), image, noisy)
    return model.backbone.model(
        inputs_embeds=model.embed(batch).embeds_BSD,
        attention_mask=model.attention_mask(layout),
        position_ids=position,
        use_cache=False,
        routing=Routing.of(batch["modality"].flatten(), model.group_of, 2),
    ).last_hidden_state


def positions(model: SymbioticModel, before: int, inside: int, after: int) -> Tensor:
    steps = [0] * inside if model.recipe.model.image_positions == "shared" else list(range(inside))
    middle = [before + s for s in steps]
    last = middle[-1] + 1
    return torch.tensor([[*range(before), *middle, *range(last, last + after)]])


@torch.inference_mode()
def slow_answer(model: SymbioticModel, image: Image.Image, question: str, n: int) -> str:
    text = ENCODE(question + "\n") if question else []
    ids, tokens = [], model.plan.vit_tokens
    for _ in range(n):
        sequence = [IDS.bos, IDS.image, *[IDS.pad] * tokens, IDS.image_end, *text, *ids]
        modality = torch.tensor([[0, 0, *[1] * tokens, *[0] * (1 + len(text) + len(ids))]])
        assert model.recipe.model.vision is not None
        batch = {
            "input_ids": torch.tensor([sequence]),
            "modality": modality,
            "vit_pixels": torch.from_numpy(pixels(image, model.recipe.model.vision.image_size))[None],
            "noisy_latents": torch.zeros(0, model.plan.vae_tokens, model.plan.latent_dim),
            "timestep": torch.zeros(0),
        }
        position = positions(model, 2, tokens, 1 + len(text) + len(ids))
        hidden = full_forward(
            model, batch, torch.where(modality == 1, 0, -1), torch.zeros_like(modality, dtype=torch.bool), position
        )
        token = int(model.backbone.lm_head(hidden[0, -1]).argmax())
        if token == IDS.eos:
            break
        ids.append(token)
    return TOKENIZER.decode(ids)


def test_answers_equal_recomputing_everything(model: SymbioticModel) -> None:
    images, questions = [picture(i) for i in range(3)], ["", "what?", "a longer question"]
    got = answer(model, TOKENIZER, images, questions, max_new_tokens=6)
    assert got == [slow_answer(model, i, q, 6) for i, q in zip(images, questions, strict=True)]
    assert len(set(got)) > 1, "the model should react to its input, or this test shows nothing"
    assert got == [answer(model, TOKENIZER, [i], [q], max_new_tokens=6)[0] for i, q in zip(images, questions, strict=True)]


@torch.inference_mode()
def slow_draw(model: SymbioticModel, prompt: str, sampling: Sampling, noise: Tensor) -> Tensor:
    def velocity(x: Tensor, t: float, caption: str) -> Tensor:
        head = [IDS.bos, *ENCODE(caption), IDS.image]
        tokens = model.plan.vae_tokens
        modality = torch.tensor([[0] * len(head) + [2] * tokens])
        batch = {
            "input_ids": torch.tensor([head + [IDS.pad] * tokens]),
            "modality": modality,
            "vit_pixels": torch.zeros(0, 3, 8, 16),
            "noisy_latents": x[None],
            "timestep": torch.tensor([t]),
        }
        hidden = full_forward(
            model, batch, torch.where(modality == 2, 0, -1), modality == 2, positions(model, len(head), tokens, 0)
        )
        assert model.latents is not None
        return model.latents.velocity(hidden[:, len(head) :], x[None], batch["timestep"])[0]

    x = noise
    times = timesteps(sampling.steps, sampling.shift).tolist()
    low, high = sampling.guidance_interval
    for t, t_next in pairwise(times):
        v = velocity(x, t, prompt)
        if low < t <= high:
            empty = velocity(x, t, "")
            guided = empty + sampling.guidance * (v - empty)
            v = guided * v.norm() / guided.norm() if sampling.renormalise else guided
        x = x + (t_next - t) * v
    return x


@pytest.mark.parametrize("renormalise", [False, True])
def test_drawing_equals_recomputing_everything(model: SymbioticModel, renormalise: bool) -> None:
    sampling = Sampling(steps=6, shift=3.0, guidance=3.0, guidance_interval=(0.4, 1.0), renormalise=renormalise)
    prompts = ["12", "a longer caption"]
    got = draw(model, TOKENIZER, prompts, sampling, seed=3)
    assert model.latents is not None
    for i, prompt in enumerate(prompts):
        noise = torch.randn(
            model.plan.vae_tokens, model.plan.latent_dim, generator=torch.Generator().manual_seed(3 * 100_003 + i)
        )
        expected = (model.latents.decode(slow_draw(model, prompt, sampling, noise)[None])[0] + 1) * 127.5
        difference = np.abs(np.asarray(got[i]).astype(float) - expected.permute(1, 2, 0).numpy())
        assert difference.max() <= 0.75, "more than rounding to 8 bits"
    assert np.asarray(got[0]).std() > 5


def test_the_same_seed_draws_the_same_image_in_any_batch(model: SymbioticModel) -> None:
    sampling = Sampling(steps=4, guidance=1.0)
    alone, both = draw(model, TOKENIZER, ["1"], sampling, seed=0)[0], draw(model, TOKENIZER, ["1", "2222"], sampling, seed=0)[0]
    assert np.abs(np.asarray(alone).astype(int) - np.asarray(both).astype(int)).max() <= 1


def test_timesteps_end_at_noise_and_image_and_shift_towards_noise() -> None:
    plain, shifted = timesteps(10, 1.0), timesteps(10, 3.0)
    assert plain[0] == shifted[0] == 1
    assert plain[-1] == shifted[-1] == 0
    assert (shifted[1:-1] > plain[1:-1]).all()
    assert shifted[5] == pytest.approx(3 * 0.5 / 2)


def test_a_model_without_the_part_says_so() -> None:
    changes = {"model.vision": None, "model.latents": None, "phases": TINY["phases"][:1], "phases.0.freeze": []}
    blind = tiny(**{**changes, "model.groups.0.modalities": ["text"]})
    model = build_model(blind, compile_plan(blind)).eval()
    with pytest.raises(UserError, match="no vision encoder"):
        answer(model, TOKENIZER, [picture(0)], ["?"])
    with pytest.raises(UserError, match="no latent interface"):
        draw(model, TOKENIZER, ["x"], Sampling(), seed=0)

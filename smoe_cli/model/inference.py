"""Answering in text and drawing images, both with a key-value cache.

Prompts of different lengths are padded on the left; padding is a document of its own (-1), so the attention rule hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerFast

from smoe_cli.data.documents import POSITIONS, Column, Document, DocumentBuilder, shifted
from smoe_cli.data.positions import image_positions, vae_layout
from smoe_cli.errors import UserError
from smoe_cli.model.mask import Layout
from smoe_cli.model.model import Inputs, SymbioticModel
from smoe_cli.model.recurrent import restore, snapshot
from smoe_cli.recipe.models import Sampling
from smoe_cli.recipe.nodes import TEXT, VAE


@dataclass
class _Prompt:
    """Left-padded prompts and what the model has cached of them. position: (B, S, 3)."""

    position: Tensor
    layout: Layout
    cache: DynamicCache

    @property
    def next_position(self) -> Tensor:
        """(B, 1, 3): prompts end with text, whose positions are equal on all axes."""
        return self.position[:, -1:] + 1


def _pad(rows: Sequence[Sequence[int]], fill: int, device: torch.device) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows], device=device)


def _prefill(model: SymbioticModel, prompts: Sequence[Document]) -> tuple[_Prompt, Tensor]:
    """Run the prompts and cache them. Returns them and their hidden states (B, S, D)."""
    device = model.device
    columns = [p.columns.tolist() for p in prompts]
    ids = _pad([c[Column.IDS] for c in columns], 0, device)
    modality = _pad([c[Column.MODALITY] for c in columns], TEXT, device)
    position = torch.stack([_pad([c[axis] for c in columns], 0, device) for axis in range(*POSITIONS.indices(len(Column)))], -1)
    document = _pad([[0] * len(p) for p in prompts], -1, device)
    image = _pad([c[Column.IMAGE] for c in columns], -1, device)
    layout = model.layout(document, image, modality)
    seen = [torch.from_numpy(pixels) for p in prompts for pixels in p.seen]
    batch = {
        "input_ids": ids,
        "modality": modality,
        "vit_pixels": torch.stack(seen).to(device) if seen else torch.zeros(0, 3, 1, 1, device=device),
        "noisy_latents": torch.zeros(0, max(model.plan.vae_tokens, 1), max(model.plan.latent_dim, 1), device=device),
        "timestep": torch.zeros(0, device=device),
    }
    cache = DynamicCache(config=model.backbone.config)
    hidden = model.decode(model.embed(batch), position, layout, model.routing(modality), cache)
    return _Prompt(position, layout, cache), hidden


@torch.inference_mode()
def answer(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    max_new_tokens: int = 128,
) -> list[str]:
    """Greedy answers to one question about each image; the prompt is that of the training task `mmu`.

    All pairs are one batch. Raises UserError if the model has no vision encoder.
    """
    spec = model.recipe.model
    if spec.vision is None:
        raise UserError(
            "this model has no vision encoder", "add `model.vision` to the recipe and train it on a source with task `mmu`"
        )
    builder = DocumentBuilder(model.recipe, model.plan, tokenizer)
    eos = builder.special.eos
    prompts = [builder.to_answer(image, question) for image, question in zip(images, questions, strict=True)]
    prompt, hidden = _prefill(model, prompts)

    layout, position, last = prompt.layout, prompt.next_position, hidden[:, -1]
    new: list[Tensor] = []
    done = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    text = torch.full((len(prompts), 1), TEXT, device=model.device)
    one = model.layout(torch.zeros_like(text), torch.full_like(text, -1), text)
    for _ in range(max_new_tokens):
        token = model.backbone.lm_head(last).float().argmax(-1)
        new.append(torch.where(done, eos, token))
        done |= token == eos
        if done.all():
            break
        layout = Layout.cat(layout, one)
        embeds = Inputs(model.backbone.get_input_embeddings()(token.unsqueeze(1)))
        last = model.decode(embeds, position, layout, model.routing(text), prompt.cache)[:, -1]
        position = position + 1
    rows = torch.stack(new, dim=1).tolist()
    rows = [row[: row.index(eos)] if eos in row else row for row in rows]
    return tokenizer.batch_decode(rows, skip_special_tokens=True)


def timesteps(steps: int, shift: float) -> Tensor:
    """(steps + 1,) from 1 to 0, shifted: t ← s·t / (1 + (s − 1)·t)."""
    return shifted(torch.linspace(1, 0, steps + 1), shift)


def _velocity(model: SymbioticModel, x_NPV: Tensor, t: float, prompt: _Prompt) -> Tensor:
    """Predicted velocity of one guidance branch. Reads the prompt's cache and leaves it as it was."""
    assert model.latents is not None
    n, p, _ = x_NPV.shape
    t_N = torch.full((n,), t, device=x_NPV.device)
    _, grid = vae_layout(model.recipe)
    inside = torch.from_numpy(image_positions(model.plan.image_positions, 0, grid)).T.to(x_NPV.device)
    modality = torch.full((n, p), VAE, device=x_NPV.device)
    zero = torch.zeros_like(modality)
    layout = Layout.cat(prompt.layout, model.layout(zero, zero, modality))
    before = snapshot(prompt.cache)
    inputs = Inputs(model.latents.embed(x_NPV, t_N))
    hidden = model.decode(inputs, prompt.next_position + inside, layout, model.routing(modality), prompt.cache)
    restore(prompt.cache, before)
    return model.latents.velocity(hidden, x_NPV, t_N)


@torch.inference_mode()
def draw(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    sampling: Sampling,
    seed: int | Sequence[int],
) -> list[Image.Image]:
    """One image for each prompt: Euler steps from noise to image under classifier-free guidance.

    The prompt, and the empty one that guidance subtracts, are run once; every denoising step reuses their key-value cache. The
    noise of image i depends on (seed, i) alone; of several seeds, one for each image, on its own, as if it were drawn alone.
    Raises UserError if the model has no latent interface.
    """
    if model.latents is None:
        raise UserError(
            "this model has no latent interface", "add `model.latents` to the recipe and train it on a source with task `t2i`"
        )
    builder = DocumentBuilder(model.recipe, model.plan, tokenizer)
    conditional, _ = _prefill(model, [builder.to_draw(prompt) for prompt in prompts])
    unconditional = _prefill(model, [builder.to_draw(None)] * len(prompts))[0] if sampling.guidance > 1 else None
    shape = (model.plan.vae_tokens, model.plan.latent_dim)
    places = [(seed, i) for i in range(len(prompts))] if isinstance(seed, int) else [(one, 0) for one in seed]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(own * 100_003 + i)) for own, i in places]
    x = torch.stack(noise).to(model.device)
    low, high = sampling.guidance_interval
    times = timesteps(sampling.steps, sampling.shift).tolist()
    for t, t_next in pairwise(times):
        v = _velocity(model, x, t, conditional)
        if unconditional is not None and low < t <= high:
            guided = (v0 := _velocity(model, x, t, unconditional)) + sampling.guidance * (v - v0)
            if sampling.renormalise:
                guided = guided * (v.flatten(1).norm(dim=1) / guided.flatten(1).norm(dim=1).clamp_min(1e-8))[:, None, None]
            v = guided
        x = x + (t_next - t) * v
    pixels = ((model.latents.decode(x) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in pixels]

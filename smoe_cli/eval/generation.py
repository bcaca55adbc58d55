"""Images from captions, as files; answers about an image."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.images import read_image
from smoe_cli.data.sample import BadRow
from smoe_cli.errors import UserError
from smoe_cli.eval.limits import Named, check_answers_fit, check_drawings_fit
from smoe_cli.eval.results import free_path
from smoe_cli.eval.tables import short
from smoe_cli.eval.targets import writing
from smoe_cli.model.inference import answer, draw
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.models import Recipe, Sampling

STORED = ("steps", "guidance", "guidance_interval", "renormalise", "shift")
"""Sampling settings that are stored in a picture's file."""


def drawing_prompts(recipe: Recipe, prompts: Sequence[str]) -> tuple[str, ...]:
    """The given prompts, else the recipe's. Raises UserError when there are none or the model cannot draw."""
    if recipe.model.latents is None:
        raise UserError(
            f"the model of `{recipe.name}` cannot draw: it has no latent interface",
            "add `model.latents` to the recipe and train it on a source with task `t2i`; to ask about an image pass --image",
        )
    if not (chosen := tuple(prompts) or recipe.training.sampling.prompts):
        raise UserError("nothing to draw", "pass --prompt; the recipe has no `training.sampling.prompts` either")
    return chosen


def check_reads(recipe: Recipe) -> None:
    """Raise UserError when the recipe's model cannot answer about images."""
    if recipe.model.vision is None:
        raise UserError(
            f"the model of `{recipe.name}` cannot read images: it has no vision encoder",
            "add `model.vision` to the recipe and train it on a source with task `mmu`",
        )


def draw_to_files(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    folder: Path,
    sampling: Sampling,
    seed: int,
    count: int,
    model_sha256: str,
) -> Iterator[Path]:
    """Draw each prompt with the seeds `seed` … `seed + count - 1`; write and yield one new PNG file for each.

    Each is drawn alone: it depends on its prompt and seed, not on its neighbours. Prompt, seed, sampling settings and the hash
    of the model's weights are also stored in the file, settings as JSON. Raises UserError, before anything is drawn, on a
    prompt that is too long or no Unicode, and as `writing` does when a file cannot be written.
    """
    check_drawings_fit(model, tokenizer, _named(prompts))
    settings = sampling.model_dump(mode="json", include=set(STORED))
    for round_seed in range(seed, seed + count):
        for prompt in prompts:
            [image] = draw(model, tokenizer, [prompt], sampling, round_seed)
            facts = PngImagePlugin.PngInfo()
            facts.add_itxt("prompt", prompt)
            facts.add_text("seed", str(round_seed))
            for name, value in settings.items():
                facts.add_text(name, json.dumps(value))
            facts.add_text("model_sha256", model_sha256)
            yield _write_new(folder / f"{slug(prompt)}-seed{round_seed}.png", image, facts)


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters, digits and hyphens, at most 40, with a letter or digit at both ends."""
    return re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:40].strip("-_") or "image"


def _named(prompts: Sequence[str]) -> list[Named]:
    return [(f"prompt {short(repr(prompt))}", prompt) for prompt in prompts]


def _write_new(path: Path, image: Image.Image, facts: PngImagePlugin.PngInfo) -> Path:
    png = io.BytesIO()
    image.save(png, format="PNG", pnginfo=facts)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            free = free_path(path)
            try:
                with free.open("xb") as file:  # fails if somebody else took the name meanwhile
                    file.write(png.getvalue())
                return free
            except FileExistsError:
                continue


def open_image(path: Path) -> Image.Image:
    """An image file, RGB, upright. Raises UserError when it cannot be read."""
    try:
        return read_image(path, Path())
    except BadRow as error:
        raise UserError(f"{path}: {error.detail}") from None


def answer_about(
    model: SymbioticModel, tokenizer: PreTrainedTokenizerFast, image: Image.Image, questions: Sequence[str], max_new_tokens: int
) -> list[str]:
    """One greedy answer for each question. Raises UserError, before any, on a question that is too long or no Unicode."""
    check_answers_fit(model, tokenizer, _named(questions), max_new_tokens)
    return answer(model, tokenizer, [image] * len(questions), list(questions), max_new_tokens)

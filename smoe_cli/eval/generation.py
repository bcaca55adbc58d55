"""Images from captions, as files; answers about an image."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.images import read_image
from smoe_cli.data.sample import BadRow
from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.results import free_path
from smoe_cli.model.inference import answer, draw
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.models import Recipe, Sampling


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
) -> Iterator[Path]:
    """Draw each prompt with the seeds `seed` … `seed + count - 1`; write and yield one new PNG file for each.

    Prompt, seed and sampling settings are also stored in the file. Raises Failure when a file cannot be written.
    """
    for round_seed in range(seed, seed + count):
        for prompt, image in zip(prompts, draw(model, tokenizer, prompts, sampling, round_seed), strict=True):
            facts = PngImagePlugin.PngInfo()
            settings = {"steps": sampling.steps, "guidance": sampling.guidance, "shift": sampling.shift, "seed": round_seed}
            facts.add_itxt("prompt", prompt)
            for name, value in settings.items():
                facts.add_text(name, str(value))
            yield _write_new(folder / f"{slug(prompt)}-seed{round_seed}.png", image, facts)


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters, digits and hyphens, at most 40."""
    return re.sub(r"[^\w]+", "-", prompt).strip("-_")[:40].lower() or "image"


def _write_new(path: Path, image: Image.Image, facts: PngImagePlugin.PngInfo) -> Path:
    png = io.BytesIO()
    image.save(png, format="PNG", pnginfo=facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            free = free_path(path)
            try:
                with free.open("xb") as file:  # fails if somebody else took the name meanwhile
                    file.write(png.getvalue())
                return free
            except FileExistsError:
                continue
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror or error}") from None


def open_image(path: Path) -> Image.Image:
    """An image file, RGB, upright. Raises UserError when it cannot be read."""
    try:
        return read_image(path, Path())
    except BadRow as error:
        raise UserError(f"{path}: {error.detail}") from None


def answer_about(
    model: SymbioticModel, tokenizer: PreTrainedTokenizerFast, image: Image.Image, questions: Sequence[str], max_new_tokens: int
) -> list[str]:
    """One greedy answer for each question. Raises UserError if the model has no vision encoder."""
    return answer(model, tokenizer, [image] * len(questions), list(questions), max_new_tokens)

"""Images from captions, as files; answers about an image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.images import read_image
from smoe_cli.data.sample import BadRow
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.galleries import Gallery
from smoe_cli.eval.drawing.png import png_bytes
from smoe_cli.eval.limits import Named, check_answers_fit, check_drawings_fit
from smoe_cli.eval.provenance import hash_files
from smoe_cli.eval.results import free_path
from smoe_cli.eval.tables import short
from smoe_cli.eval.targets import writing
from smoe_cli.files import sha256
from smoe_cli.model.inference import answer, draw
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.models import Recipe, Sampling


def drawing_prompts(recipe: Recipe, prompts: Sequence[str]) -> tuple[str, ...]:
    """The given prompts, else the recipe's. Raises UserError when there are none."""
    if not (chosen := tuple(prompts) or recipe.training.sampling.prompts):
        raise UserError("nothing to draw", "pass --prompt; the recipe has no `training.sampling.prompts` either")
    return chosen


def check_draws(recipe: Recipe) -> None:
    """Raise UserError when the recipe's model cannot draw."""
    if recipe.model.latents is None:
        raise UserError(
            f"the model of `{recipe.name}` cannot draw: it has no latent interface",
            "add `model.latents` to the recipe and train it on a source with task `t2i`",
        )


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
    for round_seed in range(seed, seed + count):
        for prompt in prompts:
            [image] = draw(model, tokenizer, [prompt], sampling, round_seed)
            png = png_bytes(image, prompt, round_seed, sampling, model_sha256)
            yield _write_new(folder / f"{slug(prompt)}-seed{round_seed}.png", png)


def draw_gallery(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    gallery: Gallery,
) -> Iterator[Path]:
    """Draw what a gallery lacks, write and yield one PNG file for each: drawing i of a prompt from the gallery's seed + i.

    Each is drawn alone, as `draw_to_files` does, which also says what is raised.
    """
    check_drawings_fit(model, tokenizer, [(f"line {prompt.line}", prompt.text) for prompt in gallery.prompts])
    for prompt, sample, path in gallery.missing():
        seed = gallery.seed + sample
        [image] = draw(model, tokenizer, [prompt.text], gallery.sampling, seed)
        gallery.add(path, png_bytes(image, prompt.text, seed, gallery.sampling, gallery.model_sha256))
        yield path


def stored_weights(folder: Path) -> str:
    """SHA-256 of the weights of a model folder: of the file's bytes, or of the names and bytes of its shards."""
    files = sorted(folder.glob("*.safetensors"))
    return sha256(files[0]) if len(files) == 1 else str(hash_files(files, folder)["sha256"])


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters, digits and hyphens, at most 40, with a letter or digit at both ends."""
    return re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:40].strip("-_") or "image"


def _named(prompts: Sequence[str]) -> list[Named]:
    return [(f"prompt {short(repr(prompt))}", prompt) for prompt in prompts]


def _write_new(path: Path, png: bytes) -> Path:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            free = free_path(path)
            try:
                with free.open("xb") as file:  # fails if somebody else took the name meanwhile
                    file.write(png)
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

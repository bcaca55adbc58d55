"""Sample grids: the same prompts from the same noise, at several steps of training."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from smoe_cli.files import write_atomically
from smoe_cli.model.inference import draw
from smoe_cli.recipe.models import Recipe

if TYPE_CHECKING:
    from smoe_cli.train.loop import Trainer


def draws_images(recipe: Recipe, phase: int) -> bool:
    """Whether a phase trains on images to generate."""
    return any(recipe.data.sources[name].task == "t2i" for name in recipe.phases[phase].mixture)


def sample(trainer: Trainer, phase: str) -> None:
    """Draw the recipe's prompts, write samples/step-….png and its line of samples.jsonl, unless both exist."""
    sampling, step = trainer.recipe.training.sampling, trainer.state.step
    if not sampling.prompts:
        return
    file = trainer.folder / "samples" / f"step-{step:08d}.png"
    line = {"step": step, "phase": phase, "file": f"samples/{file.name}", "prompts": list(sampling.prompts)}
    lines = trainer.files[-1]
    if file.exists() and line in lines.read():
        return
    with trainer.weights_for_use() as model:
        images = draw(model, trainer.tokenizer, sampling.prompts, sampling, seed=trainer.recipe.seed)
    save_png(grid(images, sampling.prompts), file)
    lines.cut(step - 1)  # a grid of other prompts at this step is replaced
    lines.write(line)


def grid(images: Sequence[Image.Image], captions: Sequence[str], scale: int = 5) -> Image.Image:
    """Images in rows of up to eight, each enlarged without smoothing (small ones) and with its caption underneath."""
    width, height = images[0].size
    scale = max(1, min(scale, 256 // max(width, height)))
    font = ImageFont.load_default(12)
    cell_w, cell_h, gap = width * scale, height * scale + 18, 8
    columns = min(8, len(images), max(1, 1100 // (cell_w + gap)))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (cell_w + gap) + gap, rows * (cell_h + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap + (i % columns) * (cell_w + gap), gap + (i // columns) * (cell_h + gap)
        sheet.paste(image.resize((cell_w, height * scale), Image.Resampling.NEAREST), (x, y))
        text = (
            caption
            if pen.textlength(caption, font) <= cell_w
            else caption[: max(1, int(len(caption) * cell_w / pen.textlength(caption, font)) - 1)] + "…"
        )
        pen.text((x, y + height * scale + 3), text, fill="#333", font=font)
    return sheet


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG atomically."""
    content = BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())

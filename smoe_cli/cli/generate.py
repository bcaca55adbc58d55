"""`smoe generate`: draw images from captions, or answer questions about an image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smoe_cli.recipe.models import Sampling

DRAWING_OPTIONS = ("out", "seed", "steps", "guidance", "shift", "count", "layout", "prompts_file")


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """click's ranges let `nan`, and open ones `inf`, pass."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


@click.command("generate")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--prompt", "prompts", multiple=True, help="Caption to draw, or question about --image; may be repeated.")
@click.option("--image", type=click.Path(path_type=Path), help="Answer about this image instead of drawing.")
@click.option(
    "--layout", type=click.Choice(["geneval", "t2i-compbench"]), help="Draw --prompts into folders that this benchmark reads."
)
@click.option(
    "--prompts", "prompts_file", type=click.Path(path_type=Path), metavar="FILE", help="With --layout: the benchmark's prompts."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("generated"), show_default=True, help="Folder for the PNGs."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the noise.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Images of each prompt (seed, seed + 1, …) [default: 1; geneval 4, t2i-compbench 10].",
)
@click.option("--steps", type=click.IntRange(min=1), help="Euler steps [default: the recipe's].")
@click.option(
    "--guidance",
    type=click.FloatRange(min=1),
    callback=_finite,
    help="Classifier-free guidance, 1 = none [default: the recipe's].",
)
@click.option(
    "--shift",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    help="Timestep shift [default: the recipe's].",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Longest answer.")
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    prompts: tuple[str, ...],
    image: Path | None,
    layout: str | None,
    prompts_file: Path | None,
    out: Path,
    seed: int,
    count: int | None,
    steps: int | None,
    guidance: float | None,
    shift: float | None,
    max_new_tokens: int,
) -> None:
    """Draw captions, or answer about an image, with MODEL (a run directory or a model folder).

    \b
    smoe generate runs/quickstart --prompt 42 --prompt 7 --out pictures
    smoe generate runs/quickstart --image photo.png --prompt "What does it say?"
    smoe generate runs/emoji --layout geneval --prompts evaluation_metadata.jsonl --out geneval

    Without --prompt the recipe's own sampling prompts are drawn. Existing files are never overwritten.
    A picture depends on the model, its prompt, its seed and the sampling settings alone; each PNG stores all of them.
    A folder with a --layout that was interrupted is gone on with.
    """
    _check_options(context, image, layout, prompts, prompts_file)
    from smoe_cli.eval.opening.locate import model_folder, open_model

    folder = model_folder(model)

    from smoe_cli.eval.drawing.galleries import Gallery
    from smoe_cli.eval.drawing.generation import (
        answer_about,
        check_draws,
        check_reads,
        draw_gallery,
        draw_to_files,
        drawing_prompts,
        open_image,
        stored_weights,
    )
    from smoe_cli.eval.targets import check_folder
    from smoe_cli.recipe import load

    recipe = load(folder / "smoe.yaml").recipe
    if image is not None:
        check_reads(recipe)
        _check_exists(image)
        picture = open_image(image)
        for reply in answer_about(*open_model(folder), picture, prompts or ("",), max_new_tokens):
            click.echo(reply)
        return
    check_draws(recipe)
    captions = () if layout else drawing_prompts(recipe, prompts)
    sampling = _sampling(recipe.training.sampling, steps, guidance, shift)
    check_folder(out)
    weights = stored_weights(folder)
    if layout is None or prompts_file is None:
        drawn = draw_to_files(*open_model(folder), captions, out, sampling, seed, count or 1, weights)
    else:
        gallery = Gallery(out, layout, prompts_file, count, sampling, seed, weights)
        drawn = draw_gallery(*open_model(folder), gallery)
        click.echo(f"{out}: {len(gallery.prompts)} prompts, {gallery.count} drawings of each", err=True)
    for path in drawn:
        click.echo(path)


def _check_options(
    context: click.Context, image: Path | None, layout: str | None, prompts: tuple[str, ...], prompts_file: Path | None
) -> None:
    """Refuse options that would have no effect."""
    from click.core import ParameterSource

    from smoe_cli.errors import UserError

    unused = DRAWING_OPTIONS if image is not None else ("max_new_tokens",)
    given = [name for name in unused if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        flags = ", ".join(f"--{name.removesuffix('_file').replace('_', '-')}" for name in given)
        raise UserError(f"{flags}: no effect {'with' if image is not None else 'without'} --image")
    if (layout is None) != (prompts_file is None):
        raise UserError(
            "--layout and --prompts go together", "the layout's benchmark has a file of prompts; to draw one: --prompt"
        )
    if layout is not None and prompts:
        raise UserError("--prompt: no effect with --layout, which draws the benchmark's prompts")


def _check_exists(image: Path) -> None:
    """Refuse an image that is not there, with a similar name of the same folder."""
    from smoe_cli.errors import UserError
    from smoe_cli.recipe.words import nearest

    if image.exists():
        return
    names = sorted(path.name for path in image.parent.iterdir() if path.is_file()) if image.parent.is_dir() else []
    guess = nearest(image.name, names)
    help = (
        f"did you mean `{image.with_name(guess)}`?" if guess else "--image takes the path of a picture, such as a PNG or JPEG"
    )
    raise UserError(f"{image}: no image file", help)


def _sampling(sampling: Sampling, steps: int | None, guidance: float | None, shift: float | None) -> Sampling:
    options = {"steps": steps, "guidance": guidance, "shift": shift}
    return sampling.model_copy(update={name: value for name, value in options.items() if value is not None})

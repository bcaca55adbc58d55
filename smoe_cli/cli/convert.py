"""`smoe convert`: between checkpoints in Hugging Face layout and model folders."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from smoe_cli.errors import UserError

if TYPE_CHECKING:
    from smoe_cli.convert.options import Options, Report


@click.command("convert")
@click.argument("src")
@click.argument("dst", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    type=click.Choice(["symbiotic", "original", "understanding"]),
    required=True,
    help="symbiotic: what a recipe makes of a checkpoint, before any training. original: a checkpoint of the family that the "
    "model was made from, every expert in its place. understanding: what serves text, as a plain checkpoint of fewer experts.",
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="With --to symbiotic: the recipe, if SRC is a checkpoint and not a recipe.",
)
@click.option(
    "--dtype",
    type=click.Choice(["keep", "bf16", "fp16", "fp32"]),
    default="keep",
    show_default=True,
    help="Type of the weights that are written.",
)
@click.option(
    "--max-shard-size", metavar="SIZE", help="Largest file of weights, such as 5GB. Default: the source's own files, or 5GB."
)
@click.option(
    "--verify",
    type=click.Choice(["logits", "tensors"]),
    help="Compare logits always, or never. Default: if the model fits into memory. Tensors are compared always.",
)
def command(
    src: str,
    dst: Path,
    target: str,
    recipe: Path | None,
    dtype: str,
    max_shard_size: str | None,
    verify: Literal["logits", "tensors"] | None,
) -> None:
    """Convert SRC to the new folder DST.

    \b
    smoe convert recipes/mine.yaml models/start --to symbiotic
    smoe convert checkpoints/qwen3-30b-a3b models/start --to symbiotic --recipe recipes/mine.yaml
    smoe convert runs/mine exports/mine --to understanding
    smoe convert runs/mine exports/mine --to original --dtype bf16
    smoe convert SmolLM2-135M-Instruct.Q4_1.gguf checkpoints/smollm2 --to original

    SRC is a recipe or a checkpoint for `symbiotic`, a run directory or a model folder for the others; a GGUF file goes back to
    an `original`, dequantised. Weights are streamed, but for GGUF: memory holds a few experts at a time. What is written is
    read back and compared before DST appears under its name.
    """
    if recipe is not None and target != "symbiotic":
        raise UserError("`--recipe` goes with `--to symbiotic`", "a model folder holds its own recipe; remove it")

    from smoe_cli.convert.memory import return_large_blocks
    from smoe_cli.convert.options import DTYPES, Options, size

    return_large_blocks()
    options = Options(DTYPES.get(dtype), size(max_shard_size) if max_shard_size else None, verify, progress=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job's time is up: leave nothing, as on Ctrl-C
    try:
        report = _symbiotic(src, dst, recipe, options) if target == "symbiotic" else _plain(Path(src), dst, target, options)
    finally:
        signal.signal(signal.SIGTERM, before)
    _show(dst, report)


def _symbiotic(src: str, dst: Path, recipe: Path | None, options: Options) -> Report:
    from smoe_cli.convert.symbiotic import to_symbiotic

    is_recipe = Path(src).suffix in (".yaml", ".yml")
    if is_recipe and recipe is not None:
        raise UserError(f"{src}: is a recipe, and `--recipe` names another", "give one of them")
    if is_recipe:
        return to_symbiotic(Path(src), dst, options)
    if recipe is None:
        raise UserError(
            f"{src}: `--to symbiotic` needs a recipe, which says how the experts are split",
            "add `--recipe recipe.yaml`, or give the recipe in the place of SRC",
        )
    return to_symbiotic(recipe, dst, options, checkpoint=src)


def _plain(src: Path, dst: Path, target: str, options: Options) -> Report:
    from smoe_cli.convert.gguf import dequantise, is_gguf

    if is_gguf(src):
        if target != "original":
            raise UserError(f"{src}: a GGUF file becomes a plain checkpoint", "pass `--to original`")
        return dequantise(src, dst, options)

    from smoe_cli.eval.opening.locate import is_plain, model_folder

    if is_plain(src):
        raise UserError(
            f"{src}: `--to {target}` needs a model folder or a run directory",
            "it is a plain checkpoint already; `--to symbiotic` with a recipe splits its experts",
        )
    folder = model_folder(src)

    from smoe_cli.convert.original import to_original
    from smoe_cli.convert.understanding import to_understanding

    return (to_original if target == "original" else to_understanding)(folder, dst, options)


def _show(dst: Path, report: Report) -> None:
    from smoe_cli.convert.options import words

    files = f"{report.files} file{'' if report.files == 1 else 's'}"
    form = "symbiotic form of " if report.target == "symbiotic" else ""
    click.echo(f"{dst}: {form}{report.family}, {report.parameters:,} parameters, {words(report.nbytes)} in {files}")
    for note in report.notes:
        click.echo(f"  {note}")
    for part, count in report.left_out.items():
        click.echo(f"  left out: {part} ({count:,} parameters)")
    click.echo(f"  checked: {report.check.words()}")

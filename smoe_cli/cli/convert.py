"""`smoe convert`: write a model for another library."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    type=click.Choice(["understanding"]),
    required=True,
    help="understanding: what serves text, as a plain transformers checkpoint of the backbone's family.",
)
def command(model: Path, out: Path, target: str) -> None:
    """Export MODEL (a run directory or a model folder) to the new folder OUT.

    \b
    smoe convert runs/quickstart exports/quickstart --to understanding

    The export loads with `AutoModelForCausalLM.from_pretrained`, without this package. Before it is reported as done it is
    opened again and its logits are compared with the model's.
    """
    from smoe_cli.eval.locate import model_folder

    folder = model_folder(model)

    from smoe_cli.convert.understanding import export_understanding

    facts = export_understanding(folder, out)
    same = "equal bit for bit" if facts.check.difference == 0 else f"equal within {facts.check.difference:.3g}"
    click.echo(f"{out}: {facts.family}, {facts.group.size} of {facts.experts} experts a layer, {facts.kept:,} parameters")
    for part, count in facts.dropped_parts().items():
        click.echo(f"  left out: {part} ({count:,} parameters)")
    click.echo(f"  opened with transformers: all tensors equal, logits of {facts.check.tokens} tokens {same}")

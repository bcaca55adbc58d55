"""`smoe compare`: results of several models side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smoe_cli.eval.compare.alike import ABSENT

if TYPE_CHECKING:
    from smoe_cli.eval.compare.alike import Refusal


@click.command("compare")
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--allow", metavar="FIELD", multiple=True, help="Compare although this field differs: --allow protocol.shots")
@click.option("--details", is_flag=True, help="Show all metrics, not only each task's main one.")
@click.option("--json", "json_path", metavar="PATH", help="Write everything as JSON; `-` prints it instead of the tables.")
def command(results: tuple[Path, ...], allow: tuple[str, ...], details: bool, json_path: str | None) -> None:
    """Compare RESULTS: files of `smoe eval --json`, folders of such files, or run directories. The first is the baseline.

    \b
    smoe compare before.json after.json
    smoe compare runs/joint runs/separate runs/frozen --details

    What was not measured alike does not get into one column: the command says what differs and ends with exit code 2.
    """
    from smoe_cli.errors import UserError
    from smoe_cli.eval.compare.compare import compare, is_comparison
    from smoe_cli.eval.results import write_json
    from smoe_cli.eval.targets import check_file

    if details and json_path == "-":
        raise UserError("--details: no effect with `--json -`, which prints every metric", "leave it out")
    if json_path not in (None, "-"):
        check_file(Path(str(json_path)), is_comparison, "a comparison")

    from smoe_cli.cli.compare_tables import show_comparison

    found = compare(results, allow)
    if json_path == "-":
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        if json_path:
            write_json(Path(json_path), found.to_dict())
        show_comparison(found, details)
    if found.refusals:
        raise UserError("\n".join(line for one in found.refusals for line in _refused(one)), _remedy(found.refusals))


def _refused(refusal: Refusal) -> list[str]:
    from smoe_cli.cli.compare_tables import shown

    one, other = refusal.models
    return [
        f"{refusal.task}: not in one column: {name} is {first} in {one} and {second} in {other}"
        for name, (first, second) in ((name, shown(pair)) for name, pair in refusal.fields.items())
    ]


OPTIONS = {f"protocol.{name}": f"--{name}" for name in ("shots", "limit", "dtype", "engine")}
"""What of `smoe eval` sets a field."""


def _remedy(refusals: Sequence[Refusal]) -> str:
    """How to measure again so that the results are alike, and how to overrule."""
    hints: dict[str, dict[str, None]] = {}
    for refusal in refusals:
        of_model = hints.setdefault(refusal.models[1], {})
        if '"rescored"' in refusal.fields.get("protocol.engine", ()):
            of_model["as the other was: both with a model, or both with --rescore"] = None
            continue
        for name, (wanted, _) in refusal.fields.items():
            if name in OPTIONS:
                option = OPTIONS[name]
                of_model[f"without {option}" if wanted in ("null", ABSENT) else f"with {option} {json.loads(wanted)}"] = None
            elif name.startswith("hashes.data"):
                of_model["on the same data"] = None
            elif name == "task_version":
                of_model["with the same version of smoe"] = None
    again = [f"measure {model} again {' and '.join(of_model or ['alike'])}" for model, of_model in hints.items()]
    allow = dict.fromkeys(f"--allow {name}" for refusal in refusals for name in refusal.fields)
    return f"{'; '.join(again)}; or overrule: {' '.join(allow)}"

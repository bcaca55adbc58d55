"""Where the results of `smoe eval` go: files, and the terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from smoe_cli.errors import UserError
from smoe_cli.eval.predictions import is_predictions, write_predictions
from smoe_cli.eval.results import Result, is_results, table, write_json
from smoe_cli.eval.targets import check_file


@dataclass(frozen=True)
class Output:
    """Where results go."""

    details: bool
    predictions: str | None
    json: str | None

    def check(self, rescored: str | None = None) -> None:
        """Raise UserError, before anything is loaded, where results could not be written or would not be shown.

        rescored: a file that is read.
        """
        if self.details and self.json == "-":
            raise UserError("--details: no effect with `--json -`, which prints every detail")
        if self.json not in (None, "-"):
            check_file(Path(str(self.json)), is_results, "a JSON file of results")
        if self.predictions is None:
            return
        if self.predictions == "-":
            raise UserError("--predictions -: answers go to a file", "name one")
        for option, other in {"--json": self.json, "--rescore": rescored}.items():
            if other is not None and os.path.realpath(other) == os.path.realpath(self.predictions):
                raise UserError(f"--predictions {self.predictions}: the file of {option}", "name another one")
        check_file(Path(self.predictions), is_predictions, "a file of predictions")

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raise UserError when several tasks have one name, by which a line of predictions says whose it is."""
        twice = next((name for name in names if names.count(name) > 1), None)
        if self.predictions is not None and twice:
            raise UserError(
                f"--predictions: the recipe has several tasks `{twice}`, whose answers one file cannot tell apart",
                "leave --predictions out: the eval/ of a run keeps a file for each",
            )

    def save(self, results: Sequence[Result]) -> None:
        """Write the files that were asked for: after each task, for the next may end the process."""
        if self.predictions is not None:
            write_predictions(Path(self.predictions), {result.task: result.predictions for result in results})
        if self.json not in (None, "-"):
            write_json(Path(str(self.json)), self._objects(results))

    def show(self, results: Sequence[Result]) -> None:
        """Print a table, or the JSON list."""
        if self.json == "-":
            click.echo(json.dumps(self._objects(results), indent=2, ensure_ascii=False, allow_nan=False))
            return
        console = Console(highlight=False)
        console.print(table(results, self.details))
        for result in results:
            for warning in result.warnings:
                console.print(f"{result.name}: {warning}", style="yellow", markup=False, soft_wrap=True)

    def _objects(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        """As JSON. Those whose predictions are on file name it: relative to the file of the results, where there is one."""
        objects = []
        for result in results:
            file = (self.predictions or result.predictions_file) if result.predictions else None
            if file is not None and self.json in (None, "-"):
                file = os.path.abspath(file)
            elif file is not None:
                file = os.path.relpath(file, os.path.dirname(os.path.abspath(str(self.json))))
            objects.append(replace(result, predictions_file=file).to_dict())
        return objects

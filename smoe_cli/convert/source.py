"""What conversions say of their source besides its weights: hashes of its files, and what they leave of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from math import prod
from pathlib import Path

from smoe_cli.convert.assembly import BACKBONE
from smoe_cli.convert.progress import bar
from smoe_cli.families import Backbone, open_checkpoint
from smoe_cli.files import sha256
from smoe_cli.model.folder import MANIFEST
from smoe_cli.model.io import Opened


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


def unbuilt(backbone: Backbone) -> list[str]:
    """A line for each module in the source's files that transformers does not build."""
    return [f"not taken from the source, because transformers does not build it: `{module}`" for module in backbone.left_out]


def left_out(model: Opened, used: Collection[str]) -> dict[str, int]:
    """Parameters left out, by part: `experts.<group>`, `router.<group>`, `shared_expert`, `vision`, `projector`, `latents`."""
    parts: Counter[str] = Counter()
    for name, entry in model.checkpoint.entries.items():
        if name not in used:
            parts[_part(name)] += prod(entry.shape)
    return dict(parts)


def _part(name: str) -> str:
    words = name.split(".")
    for word in ("router", "experts"):
        if name.startswith(BACKBONE) and word in words:
            return f"{word}.{words[words.index(word) + 1]}"
    return next((word for word in words if word.startswith("shared_expert")), words[0])

"""Data files, specs, fake sources and batches that the data tests share."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from smoe_cli.data.loader import Step
from smoe_cli.data.sample import Address, BadRow, Sample
from smoe_cli.data.sources import Source
from smoe_cli.recipe.models import Dataset, RenderedText


def dataset(path: Path | str, task: str = "lm", **settings: Any) -> Dataset:
    """A `dataset` source."""
    return Dataset.model_validate({"kind": "dataset", "task": task, "path": str(path), **settings})


def rendered(**settings: Any) -> RenderedText:
    """A `rendered-text` source that reads digits in small images."""
    return RenderedText.model_validate({"kind": "rendered-text", "task": "mmu", "image_size": [16, 32], **settings})


def picture(colour: Any = (10, 200, 30), size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    """A plain picture of (width, height)."""
    return Image.new(mode, size, colour)


def png(image: Image.Image | None = None) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    (image or picture()).save(buffer, format="PNG")
    return buffer.getvalue()


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """One JSON value a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """Records, the first being the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


class Listed(Source):
    """A source that yields given samples (or raises given errors) in turn, over and over, each lane on its own."""

    def __init__(self, name: str, items: Sequence[Sample | BadRow], **spec: Any):
        super().__init__(name, dataset("nowhere.jsonl", **spec))
        self.items = items

    def next_address(self, taken: int, lane: int, lanes: int, rng: np.random.Generator) -> Address:
        return taken

    def fetch(self, address: Address) -> Sample:
        item = self.items[address % len(self.items)]
        if isinstance(item, BadRow):
            raise item
        return item

    def place(self, address: Address) -> str:
        return f"item {address}"


def rows_of(step: Step) -> list[dict[str, Any]]:
    """The rows of a step, in the order of its lanes, each with its own images: what training sees, whatever the batching."""
    rows = []
    for batch in step.micro_batches:
        seen = drawn = 0
        for i in range(len(batch["input_ids"])):
            row: dict[str, Any] = {
                key: value[i].tolist() for key, value in batch.items() if value.dim() == 2 and key != "noise"
            }
            n_seen, n_drawn = (len(_images(batch, i, modality)) for modality in (1, 2))
            row["vit_pixels"] = batch["vit_pixels"][seen : seen + n_seen].tolist()
            for key in ("vae_pixels", "timestep", "noise", "vae_source"):
                row[key] = batch[key][drawn : drawn + n_drawn].tolist()
            seen, drawn = seen + n_seen, drawn + n_drawn
            rows.append(row)
        assert (seen, drawn) == (len(batch["vit_pixels"]), len(batch["vae_pixels"]))
    return rows


def _images(batch: Mapping[str, Tensor], row: int, modality: int) -> set[int]:
    return set(batch["image"][row][batch["modality"][row] == modality].tolist())

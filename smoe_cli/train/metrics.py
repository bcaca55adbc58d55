"""What is measured while training: sums over a window of steps, written as lines of JSON.

Files in the run directory (timings are apart, so that metrics.jsonl is the same whenever the run is the same):
metrics.jsonl, routing.jsonl, timings.jsonl, samples.jsonl.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from smoe_cli.files import write_atomically
from smoe_cli.plan import Plan
from smoe_cli.recipe.nodes import MODALITIES

CAPACITY_FACTOR = 1.25
USED = 0.1


def utilisation_and_capacity(counts_LME: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Two (M,) float tensors from one step's assignments (L, M, E); NaN for a modality without tokens.

    utilisation: share of the group's experts that receive at least a tenth of an even share of the modality's assignments.
    capacity rate: share of its assignments that would be dispatched if every expert took at most 1.25 times the even share
    (nothing is dropped in training; this is a measurement). Both are means over layers.
    """
    utilisation, capacity, base = torch.full((len(MODALITIES),), math.nan), torch.full((len(MODALITIES),), math.nan), 0
    for index, group in enumerate(plan.groups):
        size = len(group.experts[0])
        for modality in group.modalities:
            m = MODALITIES.index(modality)
            counts_LE = counts_LME[:, m, base : base + size].float()
            total_L1 = counts_LE.sum(1, keepdim=True)
            if plan.group_of.get(modality) != index or not total_L1.any():
                continue
            even = total_L1 / size
            utilisation[m] = (counts_LE >= USED * even).float().mean()
            capacity[m] = (counts_LE.minimum(CAPACITY_FACTOR * even).sum(1) / total_L1.squeeze(1)).mean()
        base += size
    return utilisation, capacity


class Window:
    """Named sums since the last logged step. They are saved with a checkpoint, so that a resumed run logs the same lines."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add a value (any shape) to the sum of this name."""
        value = torch.as_tensor(value).detach().cpu()
        value = value.to(torch.float64 if value.is_floating_point() else torch.int64)
        self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()

    def add_present(self, name: str, values_M: Tensor) -> None:
        """Add one value per modality, leaving out modalities that have none (NaN)."""
        for modality, value in zip(MODALITIES, values_M.tolist(), strict=True):
            if not math.isnan(value):
                self.add(f"{name}/{modality}", value)
                self.add(f"{name}/{modality}#", 1)

    def mean(self, name: str, count: str | None = None) -> float:
        """Sum of a name divided by that of `count` (default: `name#`)."""
        return float(self.sums[name] / self.sums[count or f"{name}#"])

    def clear(self) -> None:
        """Start a new window."""
        self.sums = {}


def window_line(window: Window, source_names: tuple[str, ...]) -> dict[str, float]:
    """The metrics of a window: losses are means over its tokens or values, the rest means over its steps."""
    line: dict[str, float] = {}
    for part, denominator in (("text", "text_counts"), ("flow", "flow_counts")):
        losses, counts = window.sums[f"{part}_losses"], window.sums[denominator]
        if counts.sum():
            line[f"loss/{part}"] = float(losses.sum() / counts.sum())
        for name, loss, n in zip(source_names, losses.tolist(), counts.tolist(), strict=True):
            if n:
                line[f"loss/source/{name}"] = loss / n
    for name in window.sums:
        if f"{name}#" in window.sums:
            line[name] = window.mean(name)
    for modality, tokens in zip(MODALITIES, window.sums["tokens"].tolist(), strict=True):
        line[f"tokens/{modality}"] = tokens
    return line


class JsonLines:
    """An append-only file of JSON objects, one a line."""

    def __init__(self, path: Path, keep_up_to: int):
        """Open for appending after dropping lines of later steps (a resumed run repeats them) and a torn last line."""
        self.path = path
        self.file: IO[str] | None = None
        self.cut(keep_up_to)

    def cut(self, keep_up_to: int) -> None:
        """Drop lines of later steps."""
        self.close()
        kept = []
        if self.path.exists():
            for text in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    step = json.loads(text)["step"]
                except (ValueError, KeyError, TypeError):
                    break
                if step <= keep_up_to:
                    kept.append(text + "\n")
        write_atomically(self.path, "".join(kept))
        self.file = self.path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line and hand it to the operating system."""
        assert self.file is not None
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def read(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return [json.loads(text) for text in self.path.read_text(encoding="utf-8").splitlines()]

    def sync(self) -> None:
        """Wait until it is on disk."""
        assert self.file is not None
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

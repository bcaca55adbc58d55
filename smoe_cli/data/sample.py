"""What a data source yields, and how it reports a broken row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

Task = Literal["lm", "mmu", "t2i"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One example, before tokenisation."""

    task: Task
    text: str
    """`lm`: the text; `mmu`: the answer; `t2i`: the caption."""
    question: str = ""
    """`mmu` only; may be empty."""
    image: Image.Image | None = None
    """`mmu`, `t2i`: RGB, any size."""


class BadRow(Exception):
    """A row that cannot be trained on. `reason` is short and countable, `detail` says what exactly."""

    def __init__(self, reason: str, detail: str | None = None):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail or reason


Address = Any
"""JSON-able; a source fetches the same sample from the same address in any process and after any restart."""

"""Captioned pictures to draw again: the captions are the prompts, the pictures what drawings of them are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoe_cli.data.files import is_local
from smoe_cli.data.keys import generator
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.data.sources import Source, open_source
from smoe_cli.errors import UserError
from smoe_cli.recipe.measures import Captioned
from smoe_cli.recipe.models import Dataset, Emoji, Recipe, RenderedText


@dataclass
class Captions:
    """The first `count` samples of a source with task `t2i`, and what is known of them after one walk through all."""

    source: Source
    seed: int
    count: int
    facts: dict[str, Any]
    """For the protocol: where they are from."""
    help: str
    """For messages about a broken sample."""
    texts: list[str] = field(default_factory=list)
    """Captions of the samples that the walk has come by."""

    def __post_init__(self) -> None:
        self._prompts, self._all = hashlib.sha256(), hashlib.sha256()

    def walk(self, batch_size: int) -> Iterator[list[Sample]]:
        """The samples in batches; to be walked through once. Raises UserError naming the place of a broken one."""
        rng = generator("captions", self.seed)
        batch: list[Sample] = []
        for index in range(self.count):
            # a source that has a position must be asked for its addresses; others number their samples, held-out strings
            # and emoji such that none comes twice before all have come
            address = self.source.next_address(index, 0, 1, rng) if self.source.streamed else index
            try:
                sample = self.source.fetch(address)
            except BadRow as error:
                raise UserError(f"{self.source.place(address)}: {error.detail}", self.help) from None
            assert sample.image is not None
            self.texts.append(sample.text)
            self._prompts.update(sample.text.encode() + b"\0")
            self._all.update(f"{sample.text}\0{sample.image.size}\0".encode() + sample.image.tobytes())
            batch.append(sample)
            if len(batch) == batch_size or index + 1 == self.count:
                yield batch
                batch = []

    @property
    def prompt_sha256(self) -> str:
        """Of the captions walked through."""
        return self._prompts.hexdigest()

    @property
    def hashes(self) -> dict[str, Any]:
        """Of captions and pixels, as a result's `hashes["data"]`."""
        return {"sha256": self._all.hexdigest(), "samples": len(self.texts)}


def captions_of(task: Captioned, name: str, recipe: Recipe | None) -> Captions:
    """What a task draws: samples of a source of the recipe, held-out ones where it keeps any, or of `data`.

    name: the task's, for messages. Which samples these are does not depend on the recipe's seed, but on the task's. Raises
    UserError when there is no such source or file.
    """
    if task.data is not None:
        if not is_local(task.data):
            raise UserError(
                f"{name}: no file or folder `{task.data}`", "pass a table with captions and pictures, or its folder"
            )
        spec: RenderedText | Emoji | Dataset = Dataset(kind="dataset", task="t2i", path=task.data)
        facts: dict[str, Any] = {"source": Path(task.data).name, "split": "train"}
        help = "rows have a `caption`, and an `image` or the `file_name` of one (in a folder: metadata.jsonl)"
    else:
        spec = drawn_source(recipe, task.source, name)
        if isinstance(spec, RenderedText | Emoji):
            spec = spec.model_copy(update={"split": "heldout"})
        facts = {"source": task.source, "split": getattr(spec, "split", None)}
        help = "correct it, or leave it out; training leaves out what it cannot read, measuring does not"
    source = open_source(task.source or name, spec, task.seed, phase=0)
    count = task.images if source.rows is None else min(task.images, source.rows)
    return Captions(source, task.seed, count, facts, help)


def drawn_source(recipe: Recipe | None, name: str | None, task: str) -> RenderedText | Emoji | Dataset:
    """The source of this name. Raises UserError unless its task is `t2i`."""
    sources = recipe.data.sources if recipe else {}
    source = sources.get(name or "")
    if isinstance(source, RenderedText | Emoji | Dataset) and source.task == "t2i":
        return source
    known = ", ".join(key for key, one in sources.items() if one.task == "t2i")
    raise UserError(
        f"{task}: `{name}` is not a source with task `t2i` of the model's recipe",
        f"sources that can be used: {known or 'none'}",
    )

"""Drawing many captions to be judged: in batches, each from a seed of its own, the first ones kept as files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from smoe_cli.eval.drawing.png import png_bytes
from smoe_cli.eval.limits import check_drawings_fit
from smoe_cli.eval.models import Asking
from smoe_cli.files import write_atomically
from smoe_cli.model.folder import atomic_folder
from smoe_cli.recipe.models import Sampling

METADATA = "metadata.jsonl"
"""Captions of a folder of pictures, in the columns of the `datasets` library's image folders."""


def draw_captions(asking: Asking, task: str, captions: Sequence[str], seed: int, keep: int) -> Iterator[list[Image.Image]]:
    """Draw each caption, in batches; picture i comes from the noise of seed + i, whatever the batch it is drawn in.

    The first `keep` are written to `<out_dir>/data/<name of the result>/` with their captions, where an evaluation writes
    anything, once all are drawn. Raises UserError when the model cannot draw, and before anything is drawn on a caption that
    does not fit.
    """
    drawer = asking.opened.drawer(task)
    named = [(f"caption {index + 1}", caption) for index, caption in enumerate(captions)]
    check_drawings_fit(drawer.model, drawer.tokenizer, named)
    folder = asking.out_dir / "data" / asking.name if asking.out_dir and keep else None
    with atomic_folder(folder) if folder else nullcontext(None) as work:
        rows = []
        for start in range(0, len(captions), asking.batch_size):
            batch = captions[start : start + asking.batch_size]
            seeds = range(seed + start, seed + start + len(batch))
            images = drawer.draw(batch, seeds)
            if work:
                for image, prompt, own in zip(images[: max(0, keep - start)], batch, seeds, strict=False):
                    rows.append(_write(work, image, prompt, own, drawer.sampling))
            yield images
            if asking.tell:
                asking.tell(start + len(batch), len(captions))
        if work:
            write_atomically(work / METADATA, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write(folder: Path, image: Image.Image, prompt: str, seed: int, sampling: Sampling) -> dict[str, Any]:
    name = f"{seed:06d}.png"
    write_atomically(folder / name, png_bytes(image, prompt, seed, sampling))
    return {"file_name": name, "caption": prompt, "seed": seed}

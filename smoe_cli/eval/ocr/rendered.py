"""Held-out strings of a `rendered-text` source, written in OCRBench's columns."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.eval.ocr.scoring import RENDERED
from smoe_cli.model.folder import atomic_folder
from smoe_cli.recipe.models import RenderedText

QUESTION_TYPES = {"digits": "Digit String Recognition", "words": "Regular Text Recognition"}
"""Content of the source → OCRBench's question type."""

FILE = "test-00000-of-00001.parquet"

_TEXT = {"dtype": "string", "_type": "Value"}
_FEATURES = {
    "dataset": _TEXT,
    "question": _TEXT,
    "question_type": _TEXT,
    "answer": {"feature": _TEXT, "_type": "List"},
    "image": {"_type": "Image"},
}
"""What tells the `datasets` library that `image` is an image."""

SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("question", pa.string()),
        ("question_type", pa.string()),
        ("answer", pa.list_(pa.string())),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def write_rendered(source: RenderedText, name: str, seed: int, count: int, folder: Path) -> Path:
    """Draw the first `count` held-out samples of a source into `folder`: the parquet file, whose path is returned, and a card.

    The drawings are a function of the source, the seed and the count alone; with the same libraries so are the file's bytes.
    """
    heldout = RenderedTextSource(source.model_copy(update={"split": "heldout"}), seed)
    rows = []
    for index in range(count):
        sample = heldout.sample(index)
        png = io.BytesIO()
        sample.image.save(png, format="PNG")
        rows.append(
            {
                "dataset": RENDERED,
                "question": source.question or "",
                "question_type": QUESTION_TYPES[source.content],
                "answer": [sample.text],
                "image": {"bytes": png.getvalue(), "path": f"{index:05d}.png"},
            }
        )
    with atomic_folder(folder) as work:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), work / FILE)
        (work / "README.md").write_text(_card(source, name, seed, count), encoding="utf-8")
    return folder / FILE


def _card(source: RenderedText, name: str, seed: int, count: int) -> str:
    low, high = source.length
    settings = json.dumps({"seed": seed, **source.model_dump(mode="json")}, indent=2)
    return f"""---
configs:
- config_name: default
  data_files:
  - split: test
    path: {FILE}
---

# rendered-ocr: {count} held-out strings

Not OCRBench. {source.content.capitalize()}, {low} to {high} characters long, drawn by the source `{name}` of a `smoe` recipe;
none of them is among the strings that the source trains on. The columns are OCRBench's (dataset, question, question_type,
answer, image), so that the same rules score the answers.

```json
{settings}
```
"""

"""The texts of task `bits-per-byte`: held-out passages of a source, or the rows of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from smoe_cli.data.prose import passages
from smoe_cli.data.sample import BadRow
from smoe_cli.data.sources import open_source
from smoe_cli.errors import UserError
from smoe_cli.recipe.measures import BitsPerByte
from smoe_cli.recipe.models import Columns, Dataset, PythonDocs, SourceBase

NEEDS = "a `python-docs` source with `split: train`"


def load_texts(task: BitsPerByte, sources: Mapping[str, SourceBase]) -> tuple[str, ...]:
    """Read what a task measures; sources: the recipe's. Raises UserError on a source without held-out text and on bad data."""
    if task.data is not None:
        return _file(Path(task.data).expanduser(), task.column)
    source = sources.get(task.source or "")
    if not isinstance(source, PythonDocs) or source.split != "train":
        known = [name for name, one in sources.items() if isinstance(one, PythonDocs) and one.split == "train"]
        raise UserError(
            f"bits-per-byte: `{task.source}` is not {NEEDS} of this recipe",
            f"sources that can be used: {', '.join(known) or 'none'}; or name a file of texts with `data`",
        )
    return passages("heldout")


def _file(path: Path, column: str) -> tuple[str, ...]:
    if not path.is_file():
        raise UserError(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}",
            "task `bits-per-byte` reads a .jsonl, .json, .csv or .parquet file",
        )
    spec = Dataset(kind="dataset", task="lm", path=str(path), columns=Columns(text=column), streaming=True)  # in file order
    source = open_source("bits-per-byte", spec, seed=0, phase=0)
    texts = []
    for index in range(source.rows or 0):
        try:
            texts.append(source.fetch(index).text)
            texts[-1].encode()
        except BadRow as error:
            raise UserError(f"{source.place(index)}: {error.detail}", "`column` names the column of texts") from None
        except UnicodeEncodeError:
            raise UserError(f"{source.place(index)}: text is not valid Unicode") from None
    return tuple(texts)

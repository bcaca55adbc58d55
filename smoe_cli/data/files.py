"""Which local files a `path` and a `split` mean."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from smoe_cli.errors import UserError

TABLES = (".jsonl", ".json", ".csv", ".parquet")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}


def is_local(path: str) -> bool:
    """Whether a `path` means files here rather than a hub id: it exists, looks like a path, or ends like a file."""
    if Path(path).expanduser().exists() or glob.has_magic(path) or path.endswith(TABLES):
        return True
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path) is None


def find_files(path: str, split: str) -> tuple[Path, ...]:
    """Files of a split, sorted: tables, or the images of a folder that holds no table.

    A file or a glob is the split `train`. A folder is divided by sub-folders (`train/`, also under `data/`), or else by file
    names (`train.csv`, `test-00000-of-00002.parquet`) that begin with the name of a split, as on the Hugging Face hub; without
    such names all of it is `train`. Raises UserError naming what exists.
    """
    root = Path(path).expanduser()
    if root.is_dir():
        splits = _divide(root, list(_walk(root)))
        if not splits:
            raise UserError(f'no data files in the folder "{path}"', help=f"it should hold {', '.join(TABLES)} or images")
    elif root.is_file():
        if root.suffix.lower() not in TABLES:
            raise UserError(f'"{path}" is not a data file that can be read', help=f"data files end in {', '.join(TABLES)}")
        splits = {"train": [root]}
    else:
        splits = {"train": _matches(path)}
    if split not in splits:
        raise UserError(f'"{path}" has no split "{split}"', help=f"it has: {', '.join(sorted(splits))}")
    return tuple(splits[split])


def _matches(pattern: str) -> list[Path]:
    """Data files that match a glob. Raises UserError naming what lies nearby."""
    expanded = os.path.expanduser(pattern)
    found = sorted(Path(name) for name in glob.glob(expanded, recursive=True))
    found = [file for file in found if file.is_file() and file.suffix.lower() in TABLES + IMAGES]
    if found:
        return found
    parent = Path(glob.escape(expanded) if not glob.has_magic(expanded) else re.split(r"[*?\[]", expanded)[0] + "x").parent
    while not parent.is_dir():
        parent = parent.parent
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in parent.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "") if names else "nothing"
    what = "no file matches" if glob.has_magic(expanded) else "there is no file or folder"
    raise UserError(f'{what} "{pattern}"', help=f"{parent}{os.sep} holds: {shown}")


def _walk(root: Path) -> Iterable[Path]:
    """Data files and images under a folder, sorted, hidden ones left out; images only where there is no other table than
    their metadata."""
    tables, images = [], []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and suffix in TABLES:
                tables.append(Path(folder, name))
            elif not name.startswith(".") and suffix in IMAGES:
                images.append(Path(folder, name))
    return sorted(tables or images)


def _divide(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    """{split: files}, by folder names, else by file names, else all of them `train`."""
    by_folder: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for file in files:
        parts = file.relative_to(root).parts
        folder = parts[1] if len(parts) > 2 and parts[0] == "data" else parts[0]
        if len(parts) > 1 and (split := _split_of(folder, whole=True)):
            by_folder.setdefault(split, []).append(file)
        if split := _split_of(file.stem, whole=False):
            by_name.setdefault(split, []).append(file)
    if not files:
        return {}
    return by_folder or by_name or {"train": files}


def _split_of(name: str, whole: bool) -> str | None:
    """The split a name stands for: the whole name, or its first word."""
    word = name if whole else re.split(r"[-._ ]", name)[0]
    return next((split for split, names in _SPLITS.items() if word.lower() in names), None)

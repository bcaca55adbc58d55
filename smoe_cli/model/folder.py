"""Folders that are written whole or not at all, and whose files are listed with their hashes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.files import sha256

MANIFEST = "manifest.json"
VERSION = 1


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well: what stands under that name is never half written.

    A previous folder is moved aside for the exchange and then removed. A process that is killed leaves `.<name>.*` behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield work
        umask = os.umask(0)
        os.umask(umask)
        for path in [work, *work.rglob("*")]:
            # safetensors and mkdtemp make private files; these get the modes that any other file of the user has
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
            _sync(path)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            os.replace(folder, old / "old")
            os.replace(work, folder)
            shutil.rmtree(old)
        else:
            os.replace(work, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every file of a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    entries = {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
    (folder / MANIFEST).write_text(json.dumps({"version": VERSION, "files": entries}, indent=1), encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Raise UserError naming the first file that is missing or damaged."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder / MANIFEST}: missing", "the folder is incomplete, or not one that smoe wrote")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["version"], manifest["files"]
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST}: unreadable ({error})", "the folder is incomplete or damaged") from error
    if version != VERSION:
        raise UserError(
            f"{folder}: written in version {version} of the format; this smoe reads {VERSION}", "use the smoe that wrote it"
        )
    help = "copy the folder again, or use an earlier one"
    for name, (size, digest) in entries.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing, although the manifest lists it", help)
        if path.stat().st_size != size or sha256(path) != digest:
            raise UserError(f"{path}: damaged (its bytes are not those of the manifest)", help)
    unlisted = {str(p.relative_to(folder)) for p in folder.rglob("*.safetensors")} - entries.keys()
    if unlisted or not any(name.endswith(".safetensors") for name in entries):
        what = f"does not list {', '.join(sorted(unlisted))}" if unlisted else "lists no weights"
        raise UserError(f"{folder / MANIFEST}: {what}", "the folder is incomplete or damaged")

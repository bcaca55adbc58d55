"""Where a number comes from: versions of the libraries, hashes of the files."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_cli.files import sha256

if TYPE_CHECKING:
    import torch


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, of this package, of the libraries that compute, and of `more` packages; none is imported for it."""
    found = {"python": platform.python_version()}
    for package in ("smoe", "torch", "transformers", *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # this package, run from a source folder that was never installed
            found[package] = "not installed"
    return found


def hash_files(files: Iterable[Path], root: Path) -> dict[str, Any]:
    """One SHA-256 over the names (relative to `root`) and bytes of several files, in any order; and how many they are."""
    unique = sorted(set(files))
    digest = hashlib.sha256()
    for file in unique:
        name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        digest.update(f"{name}\0{sha256(file)}\n".encode())
    return {"sha256": digest.hexdigest(), "files": len(unique)}


def hash_asked(questions: Iterable[Any]) -> dict[str, Any]:
    """One SHA-256 over questions with their answers, as JSON writes them, in order, wherever they were read; and how many."""
    rows = [json.dumps(question, ensure_ascii=False) for question in questions]
    return {"sha256": hashlib.sha256("\n".join(rows).encode()).hexdigest(), "questions": len(rows)}


def effective(limit: int | None, total: int) -> int | None:
    """`limit` if it leaves any of `total` questions out, else None: then it changes nothing."""
    return limit if limit is not None and limit < total else None


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256 over names, shapes, types and bytes of a model's tensors as they are now: the same however they were stored."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

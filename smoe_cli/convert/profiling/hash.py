"""Hashes that tell data and weights apart without reading terabytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

BLOCK = 2**16
BLOCKS = 2**10
"""A file of up to BLOCKS × BLOCK bytes (64 MiB) is read whole, a larger one in BLOCKS blocks at even distances."""


def fingerprint(files: Iterable[Path], *texts: str) -> str:
    """SHA-256 over sizes and contents of the files, in order, wherever they lie, and over texts."""
    digest = hashlib.sha256(fingerprint_text(*texts).encode())
    for file in files:
        size = file.stat().st_size
        digest.update(f"\0{size}\0".encode())
        with file.open("rb") as handle:
            for block in range(min(BLOCKS, -(-size // BLOCK))):
                start = block * BLOCK if size <= BLOCKS * BLOCK else block * (size - BLOCK) // (BLOCKS - 1)
                handle.seek(start)
                digest.update(handle.read(BLOCK))
    return digest.hexdigest()


def fingerprint_text(*texts: str) -> str:
    """SHA-256 over several texts, none of which can stand for two."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        digest.update(f"{len(raw)}\0".encode() + raw)
    return digest.hexdigest()

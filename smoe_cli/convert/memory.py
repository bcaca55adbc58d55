"""Keeping the memory of a process that streams weights from growing."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3
"""`mallopt(3)`"""


def return_large_blocks() -> None:
    """Have the C library give blocks of 1 MB and more back to the system when they are freed. Does nothing but on glibc.

    By default it learns to keep them, and the gaps between them made a conversion grow by some 50 MB a gigabyte of weights.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)

"""Random states, so that what is drawn and measured in training leaves no trace in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Afterwards, even after an error, the global random generators are as they were: Python's, numpy's, torch's on the CPU and
    on each accelerator."""
    python, arrays = random.getstate(), numpy.random.get_state()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind, devices = (accelerator.type, range(torch.accelerator.device_count())) if accelerator else ("cpu", ())
    try:
        with torch.random.fork_rng(devices, device_type=kind):
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(arrays)

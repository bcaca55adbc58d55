"""Small checkpoints of the families, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.families.tiny import write_checkpoint

Checkpoints = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """checkpoint(family) is the folder of its small checkpoint. Do not write there."""
    written: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in written:
            written[family] = write_checkpoint(family, tmp_path_factory.mktemp("checkpoints") / family)
        return written[family]

    return folder

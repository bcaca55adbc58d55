"""Checkpoints of every family, each written once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.families.tiny import write_checkpoint

Written = Callable[..., Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """`written(family, shards="50GB")`: the folder of a checkpoint that nobody changes."""

    @cache
    def write(family: str, shards: str = "50GB") -> Path:
        return write_checkpoint(family, tmp_path_factory.mktemp(family), shards=shards)

    return write

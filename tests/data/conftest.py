"""No network, no progress bars, no files outside the test's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smoe_cli.data.hub import quiet_datasets


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For tests that load through `datasets`: its cache lies in the test's folder, which is returned."""
    datasets = quiet_datasets()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    yield tmp_path
    if not shown:
        datasets.enable_progress_bars()

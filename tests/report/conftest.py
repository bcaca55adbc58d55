"""Run directories to report on, and a browser to read reports with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smoe_cli.report import write_report
from tests.report.browser import CHROMIUM, Browser
from tests.report.synthetic import write_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run of two phases."""
    return write_run(tmp_path / "runs" / "read-then-draw")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser() as one:
        yield one


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on such a run, measured inside its phases, too."""
    return write_report(write_run(tmp_path_factory.mktemp("runs") / "read-then-draw", during=True))

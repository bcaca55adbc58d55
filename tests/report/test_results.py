"""The section of results: tasks that have no right answers."""

from __future__ import annotations

from pathlib import Path

from smoe_cli.report.load import Run
from smoe_cli.report.results import results
from smoe_cli.report.verdict import others, understanding


def test_bits_per_byte_stand_in_a_table_of_their_own() -> None:
    row = {
        "task": "bits-per-byte",
        "name": "bits-per-byte",
        "phase": "base",
        "step": 100,
        "score": None,
        "correct": None,
        "total": None,
        "bits_per_byte": {"value": 1.2345, "standard_error": 0.0678, "bits": 123.45, "bytes": 12345, "texts": 34},
        "protocol": {"window": 256},
    }
    run = Run(Path(), "r", evaluations=(row,))
    html = str(results(run))
    for shown in ("bits per byte (lower is better)", "1.234", "0.0678", "12,345", "34"):
        assert shown in html
    assert "95 % interval" not in html
    assert not understanding(run)
    assert not others(run)

"""The sections that are tables of the plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.report.synthetic import write_json
from tests.report.test_page import page, words


@pytest.mark.parametrize(
    ("promoted", "which"),
    [
        ([[6], [7], [5], [0]], "layer 0: 6; layer 1: 7; layer 2: 5; layer 3: 0"),
        ([[1, 2, 5]] * 4, "1–2, 5"),
    ],
)
def test_which_experts_were_promoted(run_dir: Path, promoted: list[list[int]], which: str) -> None:
    assert "always on" not in words(page(run_dir))
    compiled = run_dir / "plan.json"
    write_json(compiled, json.loads(compiled.read_text(encoding="utf-8")) | {"promoted": promoted})
    row = re.search(r"<tr><th[^>]*>promoted, always on</th>(.*?)</tr>", page(run_dir))
    assert row
    assert [words(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[1])] == [
        "text, vit, vae",
        str(len(promoted[0])),
        which,
    ]

"""Screenshots at the widths of a phone and a desk, light and dark; and by the boxes, nothing overlaps or is cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from smoe_cli.report import write_report
from tests.report.browser import Browser
from tests.report.synthetic import EXAMPLE, write_json, write_lines, write_run

LAYOUT = Path(__file__).with_name("layout.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long names, many phases, many sources and many layers."""
    text = EXAMPLE.read_text(encoding="utf-8").replace(
        "name: understanding\n    steps", "name: a-phase-with-a-very-long-name\n    steps"
    )
    run = write_run(tmp_path_factory.mktemp("runs") / "crowded", text, during=True)
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    plan["phases"] = [{**plan["phases"][0], "name": f"phase-number-{i}", "start": 60 * i, "steps": 60} for i in range(10)]
    write_json(run / "plan.json", plan)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    more = {f"loss/source/a-source-with-a-long-name-{i}": 1.0 + i / 100 for i in range(9)}
    write_lines(run / "metrics.jsonl", ({**row, **more, "grad_norm/experts.a-group-with-a-long-name": 0.5} for row in rows))
    experts = [{"group": f"group-{i}", "count": 8} for i in range(16)]
    counts = {"text": [[(i * c) % 97 for c in range(128)] for i in range(48)]}
    write_lines(run / "routing.jsonl", ({"step": i, "phase": 0, "experts": experts, "counts": counts} for i in (10, 20)))
    return write_report(run)


WINDOWS = [(390, False), (900, False), (1440, False), (390, True), (1440, True)]
CASES = [("report", *window) for window in WINDOWS] + [
    ("crowded", *window) for window in WINDOWS[:3]
]  # dark has the same boxes


@pytest.mark.parametrize(("name", "width", "dark"), CASES)
def test_screenshots(
    browser: Browser, request: pytest.FixtureRequest, tmp_path: Path, name: str, width: int, dark: bool
) -> None:
    page = request.getfixturevalue(name)
    browser.open(page, width=width, dark=dark)
    browser.screenshot(tmp_path / "shot.png")
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.width == width
        assert shot.height > 5000
        paper = (20, 21, 23) if dark else (255, 255, 255)
        assert shot.convert("RGB").getpixel((width - 2, 2)) == paper
        colours = shot.convert("RGB").getcolors(1 << 24)
    assert len(colours or []) > 500, "charts, maps and pictures are there"
    assert browser.complaints() == []
    assert browser.run(LAYOUT) == []

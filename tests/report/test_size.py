"""The page stays below 5 MB, whatever the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

import smoe_cli.report.page
from smoe_cli.report import write_report
from tests.report.synthetic import evaluation, write_json, write_lines
from tests.report.test_page import drawn, words


@pytest.fixture
def huge(run_dir: Path) -> Path:
    """4,000 lines of 100 series, 48 layers of 128 experts for three modalities, 40 grids, 484 results, a long recipe."""
    series = {f"loss/source/s{i}": 1.234567 + i for i in range(100)}
    write_lines(run_dir / "metrics.jsonl", ({"step": i, "phase": "understanding", **series} for i in range(1, 4001)))
    left, right = json.dumps([*[123456] * 64, *[0] * 64]), json.dumps([*[0] * 64, *[123456] * 64])
    counts = {name: f"[{', '.join([layer] * 48)}]" for name, layer in (("text", left), ("vit", left), ("vae", right))}
    told = ", ".join(f'"{name}": {layers}' for name, layers in counts.items())
    experts = json.dumps([{"group": "understanding", "count": 64}, {"group": "generation", "count": 64}])
    rows = (
        f'{{"step": {i}, "phase": "understanding", "experts": {experts}, "counts": {{{told}}}}}\n' for i in range(10, 601, 10)
    )
    (run_dir / "routing.jsonl").write_text("".join(rows), encoding="utf-8")
    Image.effect_noise((700, 700), 90).convert("RGB").save(run_dir / "samples" / "big.png", compress_level=1)
    write_lines(
        run_dir / "samples.jsonl", ({"step": i, "file": "samples/big.png", "prompts": ["x" * 999] * 99} for i in range(40))
    )
    (run_dir / "recipe.yaml").write_text("key: value # a comment\n" * 50_000, encoding="utf-8")
    subjects = {f"subject {i}": {"correct": 50, "total": 100} for i in range(57)}
    for task in ("mmlu", "arc-easy", "hellaswag", "ocrbench"):
        for step in range(0, 601, 5):
            row = {**evaluation("understanding", step, 150, task=task), "subgroups": subjects}
            write_json(run_dir / "eval" / f"step-{step:08d}-{task}.json", row)
    return run_dir


def test_a_huge_run_stays_below_five_megabytes(huge: Path) -> None:
    path = write_report(huge)
    assert 3_000_000 < path.stat().st_size < 5_000_000
    html = path.read_text(encoding="utf-8")
    assert html.count('<figure class="sample"') >= 10
    frames = drawn(html)["routing"]["frames"]
    assert len(frames) >= 12
    assert {len(layer) for frame in frames for layers in frame["counts"].values() for layer in layers} == {64}
    assert re.search(r"The tables hold \d\d of 121 results", words(html))


def test_what_still_does_not_fit_has_less_detail(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = write_report(run_dir).stat().st_size
    monkeypatch.setattr(smoe_cli.report.page, "LIMIT", usual - 1)
    path = write_report(run_dir)
    assert path.stat().st_size < usual
    assert drawn(path.read_text(encoding="utf-8"))["routing"] is not None
    monkeypatch.setattr(smoe_cli.report.page, "LIMIT", 1)
    assert write_report(run_dir).stat().st_size < usual, "as little as there is, rather than nothing"

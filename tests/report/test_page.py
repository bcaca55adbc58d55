"""The page as text: complete, self-contained, safe, bounded, readable."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.report import write_report
from smoe_cli.report.page import asset
from tests.report.synthetic import EXAMPLE, evaluation, write_json, write_lines, write_run
from tests.report.test_markup import Reader, read

SECTIONS = ["summary", "losses", "schedules", "routing", "samples", "evaluation", "data", "plan", "recipe", "environment"]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028"


def page(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def drawn(html: str) -> dict[str, Any]:
    """The data the charts draw."""
    found = re.search(r'<script type="application/json" id="run-data">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def words(html: str) -> str:
    """What a reader without a style sheet or script would see."""
    without = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", read(without).words)


def test_a_finished_run(run_dir: Path) -> None:
    html = page(run_dir)
    shown = words(html)
    assert re.findall(r'<h2 id="([a-z]+)">', html) == SECTIONS
    for expected in (
        "Finished · 600 steps",
        "Does a small mixture of experts keep reading while it learns to draw?",
        "153/200",
        "149/200",
        "74.5 %",
        "Kept since drawing began: −2.0 (",
        "Fresh weights of a qwen2_moe decoder, 4 layers of width",
        "Per layer 6 understanding (text, vit) and 2 generation (vae), 2 for each token.",
        "understanding for 300 steps on prose, read, then generation for 300 steps on draw (drawing), prose, read;",
        "Parameters added to the plain decoder0",
        "3 × text does not fit the image",
        "the gradient of vae tokens through shared is cut, scaled by 0.1 from step 100 of the phase",
        "# two are plenty here",
        "transformers",
    ):
        assert expected in shown, expected
    assert "lacks" not in shown
    assert "missing" not in shown


def test_charts_and_places_agree(run_dir: Path) -> None:
    html = page(run_dir)
    data = drawn(html)
    assert set(re.findall(r'data-chart="([^"]+)"', html)) == set(data["charts"])
    assert {"loss", "loss-text", "loss-flow", "loss-balance", "grad", "grad-roles", "rates", "shields"} <= set(data["charts"])
    assert [line["label"] for line in data["charts"]["loss-text"]["lines"]] == ["all text", "prose", "read"]
    assert [line["label"] for line in data["charts"]["loss-flow"]["lines"]] == ["draw"], "one source is not drawn twice"
    assert [line["label"] for line in data["charts"]["utilisation"]["lines"]] == ["text", "vit", "vae"]
    assert data["routing"]["frames"][0]["to"] == 10
    assert data["phases"] == [
        {"name": "understanding", "start": 0, "steps": 300},
        {"name": "generation", "start": 300, "steps": 300},
    ]


def test_nothing_is_loaded_from_elsewhere(run_dir: Path) -> None:
    html = page(run_dir)
    reader = read(html)
    loads = [value for name, value in reader.attributes if name in ("src", "href", "srcset", "action", "poster")]
    assert all(value is not None and value.startswith(("#", "data:")) for value in loads)
    assert "@import" not in html
    assert "url(" not in asset("report.css")
    assert re.search(r"default-src 'none'; img-src data:;.*script-src 'sha256-", html)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run in which every text is an attack."""
    text = EXAMPLE.read_text(encoding="utf-8") + f"\n# {EVIL.strip()}\n"
    run = write_run(tmp_path / "hostile", text)
    recipe = run / "recipe.resolved.yaml"
    recipe.write_text(
        re.sub(
            r"^(name|description): .*", lambda m: f"{m[1]}: {json.dumps(EVIL)}", recipe.read_text(encoding="utf-8"), flags=re.M
        ),
        encoding="utf-8",
    )
    rows = [{"step": 600, "phase": EVIL, "file": "samples/step-00000600.png", "prompts": [EVIL]}]
    write_lines(run / "samples.jsonl", rows)
    write_json(run / "data.json", {EVIL: {"drawn": 1, "skipped": 1, "reasons": {EVIL: 1}}})
    write_json(run / "environment.json", {EVIL: EVIL})
    write_json(run / "eval" / "x.json", {**evaluation(EVIL, 10, 3, task=EVIL), "protocol": {EVIL: EVIL}, "warnings": [EVIL]})
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    write_lines(
        run / "metrics.jsonl", ({**row, "phase": EVIL, f"loss/source/{EVIL}": 1.0, f"lr/{EVIL}": 1.0} for row in metrics)
    )
    counts = [json.loads(line) for line in (run / "routing.jsonl").read_text(encoding="utf-8").splitlines()]
    write_lines(
        run / "routing.jsonl",
        ({**row, "experts": [{"group": EVIL, "count": 8}], "counts": {EVIL: [[1] * 8]}} for row in counts),
    )
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    plan["phases"][0]["name"] = plan["groups"][0]["name"] = plan["roles"][0] = EVIL
    write_json(run / "plan.json", plan)
    return run


def test_no_text_of_a_run_becomes_markup(hostile: Path) -> None:
    html = page(hostile)
    reader = read(html)
    assert reader.tags.count("script") == 2, "the data and the page's own"
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert all(value and value.startswith("data:") for name, value in reader.attributes if name == "src")
    assert reader.words.count("alert(1)") > 10, "shown as text instead"


def test_partial_runs_say_what_is_missing(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "model")
    for name in ("eval", "samples"):
        shutil.rmtree(run_dir / name)
    for name in ("samples.jsonl", "data.json", "routing.jsonl"):
        (run_dir / name).unlink()
    metrics = run_dir / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    metrics.write_text("".join(lines[:20]) + lines[20][:50], encoding="utf-8")
    html = page(run_dir)
    shown = words(html)
    assert re.findall(r'<h2 id="([a-z]+)">', html) == SECTIONS
    for expected in (
        "Not finished · last trace at step 200 of 600",
        "What this report lacks",
        "metrics.jsonl: the last line is torn",
        "Nothing to judge by",
        "No drawing loss was logged yet",
        "No samples were drawn",
        "there is no heat map",
        "data.json is missing",
        "eval/ holds no result yet",
    ):
        assert expected in shown, expected
    data = drawn(html)
    assert data["routing"] is None
    assert (data["last"], data["end"], data["draws"]) == (200, 400, 300), "at least half of each chart is curve"
    assert data["phases"][1] == {"name": "generation", "start": 300, "steps": 100}
    assert "understanding for 200 of 300 steps on prose, read, then generation for 0 of 300 steps" in shown


@pytest.mark.parametrize("kept", ["plan.json", "recipe.resolved.yaml", "metrics.jsonl"])
def test_a_run_of_one_file_has_a_report(run_dir: Path, kept: str) -> None:
    for child in run_dir.iterdir():
        if child.name != kept:
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    html = page(run_dir)
    assert re.findall(r'<h2 id="([a-z]+)">', html) == SECTIONS
    assert "read-then-draw" in words(html)


@pytest.mark.parametrize(
    "rubbish", [[], "text", 3, None, {"phases": 3, "groups": {"a": 1}, "parameters": [], "active": 1}, {"phases": [[]]}]
)
def test_plans_and_environments_of_another_shape_do_not_stop_the_report(run_dir: Path, rubbish: Any) -> None:
    for name in ("plan.json", "environment.json", "data.json"):
        write_json(run_dir / name, rubbish)
    write_json(run_dir / "eval" / "odd.json", {"task": 3, "score": "high", "groups": [1], "protocol": "p", "step": "x"})
    (run_dir / "recipe.resolved.yaml").write_text("data: 3\nphases: [1, {steps: many}]\nmodel: []\n", encoding="utf-8")
    assert re.findall(r'<h2 id="([a-z]+)">', page(run_dir)) == SECTIONS


def test_what_was_not_measured_alike_has_no_change(run_dir: Path) -> None:
    first = evaluation("understanding", 300, 153, task="mmlu")
    later = evaluation("generation", 600, 149, task="mmlu")
    write_json(run_dir / "eval" / "understanding-mmlu.json", first)
    write_json(run_dir / "eval" / "generation-mmlu.json", {**later, "protocol": {**later["protocol"], "shots": 5}})
    half = {**evaluation("", 0, 70, total=100, task="mmlu"), "phase": None, "step": None}
    write_json(run_dir / "eval" / "mmlu.json", {**half, "protocol": {**half["protocol"], "shots": 5, "limit": 100}})
    html = page(run_dir)
    shown = words(html)
    assert "Not comparable: other protocol: shots." in shown
    assert "– (other protocol: shots)" in shown
    assert "– (other questions)" in shown
    assert shown.count("−2.0 (") == 2, "in summary and table, of rendered-ocr, which was measured alike"


def test_what_a_result_warns_of_stands_on_the_first_screen(run_dir: Path) -> None:
    warned = {**evaluation(None, None, 34, task="mmlu"), "warnings": ["only the first 2 questions of each subject"]}
    write_json(run_dir / "eval" / "mmlu.json", warned)
    first, _, rest = words(page(run_dir)).partition("Weighted sum, as optimised.")
    told = "only the first 2 questions of each subject"
    assert f"{told}There is no result from before drawing began to compare with." in first
    assert told in rest


def test_a_run_that_does_not_draw(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    first = text[: text.index("  - name: generation")] + text[text.index("training:") :]
    run = write_run(tmp_path / "reader", first.replace("    draw: {", "    spare: {"))
    recipe = run / "recipe.resolved.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("task: t2i", "task: mmu"), encoding="utf-8")
    for name in ("samples.jsonl", "eval/generation-rendered-ocr.json"):
        (run / name).unlink()
    html = page(run)
    assert "This run trains no drawing" in words(html)
    assert "loss-flow" not in drawn(html)["charts"]
    assert "No gradient was shielded" in words(html)


def test_reader_collects_what_the_tests_above_rely_on() -> None:
    reader = Reader()
    reader.feed('<p onclick="x">a</p>')
    assert (reader.tags, reader.attributes, reader.words) == (["p"], [("onclick", "x")], "a")

"""Every number that the page shows can be saved as CSV: read back in a real browser and held to the run's own files."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import Browser
from tests.report.test_page import drawn

SAVE = """new Promise((done) => {
  URL.createObjectURL = (blob) => {
    const letters = (found) => [...new Uint8Array(found)].map((byte) => String.fromCharCode(byte)).join("");
    blob.arrayBuffer().then((found) => done(btoa(letters(found))));
    return "data:,";
  };
  BUTTON.click();
})"""


def saved(browser: Browser, button: str) -> bytes:
    """The file that a control offers. button: a JavaScript expression."""
    return base64.b64decode(browser.run(SAVE.replace("BUTTON", button)))


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8"))))


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.open(report)
    return browser


def numbers(cells: list[str]) -> list[float | None]:
    return [float(cell) if cell else None for cell in cells]


def test_every_chart_map_and_table_has_a_control(page: Browser) -> None:
    figures = "[...document.querySelectorAll('figure.figure')].filter((f) => !f.querySelector('button.csv')).length"
    assert page.run(figures) == 0
    tables = "[...document.querySelectorAll('table')].filter((t) => !t.closest('#summary, .answers'))"
    assert page.run(f"{tables}.length") > 12
    assert page.run(f"{tables}.filter((t) => !t.parentElement.nextElementSibling?.matches('button.csv')).length") == 0
    names = page.run("[...document.querySelectorAll('button.csv')].map((b) => b.getAttribute('aria-label'))")
    assert len(set(names)) == len(names)


def test_the_file_of_each_chart_holds_what_was_logged(page: Browser, report: Path) -> None:
    data = drawn(report.read_text(encoding="utf-8"))
    logged = {
        source: [json.loads(line) for line in (report.parent / name).read_text(encoding="utf-8").splitlines()]
        for source, name in (("curves", "metrics.jsonl"), ("speed", "timings.jsonl"))
    }
    for name, chart in data["charts"].items():
        head, *body = rows(saved(page, f"document.querySelector('[data-chart=\"{name}\"] button.csv')"))
        assert head[:2] == ["step", "phase"]
        for column, key in enumerate(head[2:], start=2):
            if chart["from"] in logged:
                expected = [(row["step"], row.get(key)) for row in logged[chart["from"]]]
                exact = 1e-4  # five digits are kept of what is drawn
            else:
                expected, exact = of_results(report.parent / "eval", chart["title"].split(":")[0], key), 1e-12
            found = [(int(row[0]), float(row[column]) if row[column] else None) for row in body]
            assert [step for step, _ in found] == [step for step, _ in expected], (name, key)
            for (_, one), (_, other) in zip(found, expected, strict=True):
                assert one == (None if other is None else pytest.approx(other, rel=exact, abs=1e-12)), (name, key)


def of_results(folder: Path, title: str, key: str) -> list[tuple[int, float]]:
    """(step, value) of a metric, or of an edge of its interval where that follows from the standard error."""
    metric, _, edge = key.partition(" 95 % ")
    found = {}
    for file in folder.glob("*.json"):
        row = json.loads(file.read_text(encoding="utf-8"))
        if title.startswith(row["task"]):
            one = row["metrics"][metric]
            value = one["value"]
            if edge:
                value = (
                    wilson_by_hand(one["correct"], one["total"], edge)
                    if "total" in one
                    else value + {"low": -1, "high": 1}[edge] * 1.959964 * one["standard_error"]
                )
            found[row["step"]] = value
    return sorted(found.items())


def wilson_by_hand(correct: int, total: int, edge: str) -> float:
    """The share p at which (observed − p) is 1.96 standard errors of p away: Wilson's interval by bisection."""
    observed = correct / total
    inside, outside = observed, 0.0 if edge == "low" else 1.0
    if inside == outside:
        return inside
    for _ in range(200):
        middle = (inside + outside) / 2
        near = (observed - middle) ** 2 <= 1.959964**2 * middle * (1 - middle) / total
        inside, outside = (middle, outside) if near else (inside, middle)
    return inside


def test_the_file_of_the_map_holds_every_count_of_every_frame(page: Browser, report: Path) -> None:
    head, *body = rows(saved(page, "document.querySelector('.heat > button.csv')"))
    assert head == ["from_step", "to_step", "phase", "modality", "layer", "group", "expert", "count"]
    found = {(int(row[1]), row[3], int(row[4]), row[5], int(row[6])): int(row[7]) for row in body}
    lines = (report.parent / "routing.jsonl").read_text(encoding="utf-8").splitlines()
    expected = {}
    served = {"understanding": ("text", "vit"), "generation": ("vae",)}
    for line in map(json.loads, lines):
        columns = [(one["group"], i) for one in line["experts"] for i in range(one["count"])]
        for modality in ("text", "vit", "vae"):
            layers = line["counts"].get(modality, [[0] * 8] * 4)
            for number, layer in enumerate(layers):
                for (group, expert), count in zip(columns, layer, strict=True):
                    if modality in served[group]:
                        expected[line["step"], modality, number, group, expert] = count
    assert found == expected


CELLS = """[...document.querySelectorAll('table[data-csv]')].map((table) => [...table.rows].map((row) => [...row.cells].map(
  (cell) => cell.querySelector('svg') ? [] : cell.querySelector('data') ? [...cell.querySelectorAll('data')].map((d) => d.value)
    : [cell.textContent.trim()])))"""
"""What each cell holds: its numbers, or its text."""


def test_the_file_of_each_table_holds_its_cells_in_full(page: Browser) -> None:
    tables = page.run(CELLS)
    for index, (_, *shown) in enumerate(tables):
        button = f"document.querySelectorAll('table[data-csv]')[{index}].parentElement.nextElementSibling"
        head, *body = rows(saved(page, button))
        assert len(set(head)) == len(head)
        assert {len(row) for row in body} == {len(head)}
        expected = [[part for cell in cells for part in cell if part not in ("", "–")] for cells in shown]
        assert [sorted(cell for cell in row if cell) for row in body] == [sorted(cells) for cells in expected]


FILE_OF = "document.querySelector('table[data-csv=\"NAME\"]').parentElement.nextElementSibling"


def test_numbers_of_a_cell_stand_under_their_own_names(page: Browser) -> None:
    """Rows may name different ones: the first phase has no drawings, and each source has its own reasons."""
    head, *body = rows(saved(page, FILE_OF.replace("NAME", "phases")))
    first, second = (dict(zip(head, row, strict=True)) for row in body)
    shares = [f"mixture, by samples {name}" for name in ("prose", "read", "draw")]
    assert numbers([first[name] for name in shares]) == [0.25, 0.75, None]
    assert numbers([second[name] for name in shares]) == [0.125, 0.25, 0.625]
    assert (first["shields"], first["shields factor"], second["shields"], second["shields factor"]) == ("none", "", "", "0.1")
    head, *body = rows(saved(page, FILE_OF.replace("NAME", "data")))
    assert [row[head.index("reasons text does not fit the image")] for row in body] == ["", "3", ""]


def spoken(text: str) -> float | None:
    """A number as the page writes it, less its unit."""
    found = re.match(r"[−+]?[\d.,]+(e[−-]?\d+)?", text)
    return float(found[0].replace("−", "-").replace(",", "")) if found else None


def test_the_exact_value_behind_each_number_is_the_one_that_is_shown(page: Browser) -> None:
    """`76.5 %` is 0.765, `2.35 M` is about 2,350,000: the shown digits begin the exact ones, up to rounding."""
    pairs = page.run("[...document.querySelectorAll('data')].map((d) => [d.value, d.textContent])")
    assert len(pairs) > 300
    units = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    for value, text in pairs:
        written = spoken(text)
        if written is None or " min " in text or text.startswith("<") or text.endswith("…"):
            continue
        scale = 0.01 if text.endswith("%") else units.get(text.rstrip("B").strip()[-1], 1)
        assert written * scale == pytest.approx(float(value), rel=6e-3, abs=0.0051 if text.endswith("%") else 0.051), (
            value,
            text,
        )


def test_no_number_of_the_text_is_left_out(page: Browser) -> None:
    """In summary and samples digits stand in `<data>`, but for names, the prompts, and the words of the method."""
    found = page.run(
        """(() => {
          const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT), left = [];
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const at = node.parentElement, section = at.closest('main > section')?.firstElementChild.id || 'summary';
            if (!['summary', 'samples'].includes(section) || !/[0-9]/.test(node.data)) continue;
            if (!at.closest('data, h1, .lead, .answer > .note, .prompts, .slider, button, noscript, th, caption, b'))
              left.push(node.data);
          }
          return left;
        })()"""
    )
    assert [text for text in found if not re.search(r"qwen2_moe|lite0", text)] == []
    head, *body = rows(saved(page, "document.querySelector('header button.csv')"))
    assert head == ["section", "part", "row", "what", "value"]
    kept = {tuple(where): value for *where, value in body}
    assert kept["", "", "", "steps planned"] == "600"
    assert kept["Summary", "rendered-ocr · read (acc)", "understanding", "correct"] == "153"
    assert kept["Summary", "rendered-ocr · read (acc)", "", "p"] == "0.125"
    assert kept["Samples", "", "", "seed"] == "7"
    assert [value for *_, what, value in body if what == "step of a grid"][2:] == ["400", "500", "600"]
    assert [row for row in body if not row[3] or not row[4]] == []


def test_the_archive_holds_all_of_them(page: Browser) -> None:
    archive = zipfile.ZipFile(io.BytesIO(saved(page, "document.querySelector('button.all')")))
    assert archive.testzip() is None
    names = archive.namelist()
    buttons = page.run("document.querySelectorAll('button.csv').length")
    assert len(set(names)) == len(names) == buttons
    assert archive.read("routing.csv") == saved(page, "document.querySelector('.heat > button.csv')")
    assert archive.read("summary.csv") == saved(page, "document.querySelector('header button.csv')")


def test_cells_with_commas_quotes_and_breaks_are_quoted(page: Browser) -> None:
    hard: list[Any] = ["a,b", 'say "x"', "two\nlines", "", None, 1.5]
    text = page.run(f"csvText([{json.dumps(hard)}])")
    assert rows(text.encode()) == [["a,b", 'say "x"', "two\nlines", "", "", "1.5"]]


def test_no_cell_is_a_formula_to_a_spreadsheet(page: Browser) -> None:
    run = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "\t=1", "-"]
    numbers = ["-0.02", "+3", "1e-05", -0.5, "−4.0"]
    text = page.run(f"csvText([{json.dumps(run)}, {json.dumps(numbers)}])")
    assert rows(text.encode()) == [[f"'{cell}" for cell in run], [str(cell) for cell in numbers]]

"""The page in a real browser: no complaint, no request, no sideways scrolling, usable from the keyboard."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smoe_cli.report import write_report
from tests.report.browser import Browser
from tests.report.test_page import hostile

__all__ = ["hostile"]


def check_page(browser: Browser, width: int) -> None:
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (800, False), (1440, False), (1440, True)])
def test_the_page_is_drawn(browser: Browser, report: Path, width: int, dark: bool) -> None:
    browser.open(report, width=width, dark=dark)
    check_page(browser, width)
    figures = browser.run(
        "[...document.querySelectorAll('[data-chart]')].map((f) => f.querySelectorAll('.plot path.line').length)"
    )
    assert len(figures) == 17
    assert min(figures) >= 1
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 21, 23)" if dark else "rgb(255, 255, 255)")
    outside = f"(e) => !e.closest('.scroll, pre') && e.getBoundingClientRect().right > {width} + 1"
    assert browser.run(f"[...document.querySelectorAll('main *')].filter({outside}).map((e) => e.outerHTML.slice(0, 80))") == []


def test_partial_and_hostile_runs_are_drawn_without_complaint(browser: Browser, hostile: Path, run_dir: Path) -> None:
    browser.open(write_report(hostile), width=390)
    check_page(browser, 390)
    assert browser.run("document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(lines[:1]) + lines[1][:20], encoding="utf-8")
    for name in ("eval", "samples", "model"):
        shutil.rmtree(run_dir / name)
    for name in ("samples.jsonl", "routing.jsonl", "timings.jsonl", "data.json"):
        (run_dir / name).unlink()
    browser.open(write_report(run_dir), width=390)
    check_page(browser, 390)


def test_arrow_keys_read_the_values_of_every_chart(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run("document.querySelector('[data-chart=\"loss-text\"] svg[role=slider]').focus()")
    browser.press("Home")
    browser.press("ArrowRight")
    value = browser.run("document.activeElement.getAttribute('aria-valuetext')")
    assert value.startswith("step 20, understanding, all text ")
    assert browser.run("document.activeElement.getAttribute('aria-valuenow')") == "20"
    others = browser.run(
        '[...document.querySelectorAll("#losses ~ * .at:first-child, #data ~ * .at:first-child")].map((e) => e.textContent)'
    )
    assert {text.split(" · ")[0] for text in others} == {"step 20"}, "one cursor for all charts"


def test_the_slider_moves_the_heat_map(browser: Browser, report: Path) -> None:
    browser.open(report)
    totals_of = "[...document.querySelectorAll('.heats h3 span')].map((e) => e.textContent)"
    read = f"[document.querySelector('.slider output').textContent, {totals_of}]"
    label, totals = browser.run(read)
    assert label == "steps 591–600 · generation"
    assert all("assignments" in total for total in totals)
    browser.run("document.querySelector('.slider input').focus()")
    browser.press("Home")
    label, totals = browser.run(read)
    assert label == "steps 1–10 · understanding"
    assert totals[2] == "· no tokens in these steps"


def test_a_cell_of_the_heat_map_is_read_from_the_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run("document.querySelectorAll('.heats svg')[2].focus()")
    for key in ("ArrowDown", "ArrowDown", *["ArrowRight"] * 7):
        browser.press(key)
    told = browser.run("document.querySelector('.heat > .readout').textContent")
    assert told.startswith("vae · layer 1 · generation expert 1 (backbone expert 7) · ")
    assert "× even" in told


def test_the_theme_button_and_the_loss_switches(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run("document.getElementById('theme').click()")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 23)"
    browser.run("document.getElementById('theme').click()")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    before = browser.run("document.querySelector('[data-chart=loss] path.line').getAttribute('d')")
    for option in ("log", "smooth"):
        browser.run(f"document.querySelector('[data-option={option}]').click()")
        after = browser.run("document.querySelector('[data-chart=loss] path.line:not(.raw)').getAttribute('d')")
        assert after != before
        before = after
    assert browser.complaints() == []
    browser.run("localStorage.clear()")


def test_a_single_point_is_a_dot_and_a_curve_has_none(browser: Browser, run_dir: Path) -> None:
    """A value beside another is on a line. What is drawn has a box."""
    seen = (
        "[...document.querySelectorAll('[data-chart]')].map((f) => [f.querySelectorAll('path.line').length,"
        " [...f.querySelectorAll('circle.lone')].filter((c) => c.getBBox().width >= 6).length])"
    )
    browser.open(write_report(run_dir))
    assert not any(dots for _, dots in browser.run(seen))
    for name in ("metrics.jsonl", "timings.jsonl"):
        first = (run_dir / name).read_text(encoding="utf-8").splitlines(keepends=True)[0]
        (run_dir / name).write_text(first, encoding="utf-8")
    browser.open(write_report(run_dir))
    charts = browser.run(seen)
    assert charts
    for lines, dots in charts:
        assert 1 <= dots <= lines  # a frozen role has a lane and no value
    browser.run("document.querySelector('[data-option=smooth]').click()")
    assert browser.run("document.querySelectorAll('[data-chart=loss] circle.lone').length") == 1
    assert browser.complaints() == []

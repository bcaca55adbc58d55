"""The page for every reader: contrast as drawn, the keyboard alone, a screen reader's names, less motion, and paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import Browser

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1440])
def test_contrast_meets_wcag_aa_as_drawn(browser: Browser, report: Path, width: int, dark: bool) -> None:
    """Text 4.5 : 1, marks and controls 3 : 1, on everything that they stand on."""
    browser.open(report, width=width, dark=dark)
    found = browser.run(CONTRAST)
    assert len([one for one in found if one["kind"] == "text"]) > 500
    assert len([one for one in found if one["kind"] == "mark"]) > 100
    low = [one for one in found if one["ratio"] < one["least"]]
    assert {(one["kind"], one["what"], round(one["ratio"], 2)) for one in low} == set()


LESS_MOTION = [{"name": "prefers-reduced-motion", "value": "reduce"}]
CONTROLS = "a[href], button, input, summary, [tabindex='0']"


def tabbed(browser: Browser) -> Iterator[dict[str, Any]]:
    """What each press of Tab comes to, until the page's end."""
    about = """(() => {
      const at = document.activeElement;
      if (at === document.body) return null;
      const style = getComputedStyle(at), box = at.getBoundingClientRect();
      return {
        index: [...document.querySelectorAll("CONTROLS")].indexOf(at),
        outline: style.outlineStyle, width: parseFloat(style.outlineWidth),
        seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
      };
    })()""".replace("CONTROLS", CONTROLS)
    for _ in range(400):
        browser.press("Tab")
        found = browser.run(about)
        if found is None:
            return
        yield found
    raise AssertionError("Tab never leaves the page")


def test_tab_reaches_every_control_in_order_and_shows_where_it_is(browser: Browser, report: Path) -> None:
    browser.open(report, width=390)
    browser.send("Emulation.setEmulatedMedia", media="", features=LESS_MOTION)
    reached = list(tabbed(browser))
    here = f"[...document.querySelectorAll(`{CONTROLS}`)].map((e, i) => e.checkVisibility() ? i : -1).filter((i) => i >= 0)"
    assert [one["index"] for one in reached] == browser.run(here)
    assert len(reached) > 60
    assert all(one["outline"] != "none" and one["width"] >= 2 for one in reached)
    assert all(one["seen"] for one in reached), "the focus is on the screen"


def test_every_control_has_a_name_and_sliders_say_their_value(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.send("Accessibility.enable")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    controls: dict[str, list[str]] = {}
    for node in nodes:
        named = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
        if named.get("focusable") and not node.get("ignored"):
            role = node["role"]["value"]
            if role in ("RootWebArea", "generic"):
                continue
            controls.setdefault(role, []).append(node.get("name", {}).get("value", ""))
            if role == "slider":
                assert named.get("valuetext") or node.get("value", {}).get("value"), node
    browser.send("Accessibility.disable")
    assert all(name for names in controls.values() for name in names), controls
    assert len(controls["slider"]) == 17 + 2
    assert {"link", "button", "checkbox", "region", "application"} <= set(controls)


def test_headings_landmarks_and_pictures(browser: Browser, report: Path) -> None:
    browser.open(report)
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False)), "no level is skipped"
    assert browser.run("document.querySelectorAll('main').length") == 1
    assert browser.run("document.querySelector('nav').getAttribute('aria-label')") == "Sections"
    assert browser.run("[...document.images].every((i) => i.alt.length > 10)")
    assert browser.run("document.documentElement.lang") == "en"
    assert browser.run("[...document.querySelectorAll('th')].every((e) => e.scope)")


def test_the_skip_link_comes_first_and_is_seen_when_it_has_the_focus(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.press("Tab")
    assert browser.run("document.activeElement.hash") == "#summary"
    assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0


def test_the_slider_flips_through_the_grids_in_place(browser: Browser, report: Path) -> None:
    browser.open(report)
    shown = "[...document.querySelectorAll('.gallery .sample')].filter((e) => e.checkVisibility()).map((e) => e.dataset.step)"
    assert browser.run(shown) == ["400", "600"], "the first and the last beside each other"
    browser.run("document.getElementById('grid').focus()")
    browser.press("ArrowLeft")
    assert browser.run(shown) == ["400", "500"]
    assert browser.run("document.getElementById('grid').getAttribute('aria-valuetext')") == "step 500 · 2 of 3"
    top = (
        "[...document.querySelectorAll('.flip .sample')].find((e) => e.checkVisibility()).getBoundingClientRect().top + scrollY"
    )
    place = browser.run(top)
    browser.press("Home")
    assert browser.run(shown) == ["400", "400"]
    assert browser.run(top) == place
    assert "same noise (seed 7)" in browser.run("document.querySelector('#samples').parentElement.textContent")


def test_nothing_moves_for_readers_who_ask_for_that(browser: Browser, report: Path) -> None:
    browser.open(report)
    scrolling = "getComputedStyle(document.documentElement).scrollBehavior"
    assert browser.run(scrolling) == "smooth"
    browser.send("Emulation.setEmulatedMedia", media="", features=LESS_MOTION)
    assert browser.run(scrolling) == "auto"
    css = "getComputedStyle(e).transitionDuration !== '0s' || getComputedStyle(e).animationName !== 'none'"
    assert browser.run(f"[...document.querySelectorAll('*')].filter((e) => {css}).length") == 0


def test_on_paper_all_grids_stand_below_each_other_without_controls(browser: Browser, report: Path) -> None:
    browser.open(report, width=750, dark=True)
    browser.send("Emulation.setEmulatedMedia", media="print", features=[])
    browser.settle()
    assert browser.run("document.documentElement.scrollWidth") <= 750, "the width of A4 less its margins"
    seen = "[...document.querySelectorAll('SELECTOR')].filter((e) => e.checkVisibility()).length"
    assert browser.run(seen.replace("SELECTOR", "nav, button, input, .skip")) == 0
    assert browser.run(seen.replace("SELECTOR", ".gallery .sample")) == 3
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"

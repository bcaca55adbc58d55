"""The whole page: sections in reading order, the data the charts draw, and nothing that is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from string import Template
from typing import Any

from smoe_cli.report import about, training
from smoe_cli.report.figures import Figures
from smoe_cli.report.gallery import gallery
from smoe_cli.report.load import Run
from smoe_cli.report.lookup import listing, mappings
from smoe_cli.report.markup import Html, el, join, text
from smoe_cli.report.recipe import LETTERS, recipe
from smoe_cli.report.results import ROWS, results
from smoe_cli.report.samples import BYTES, GRIDS, embed
from smoe_cli.report.series import CELLS, POINTS, compact, curves, routing
from smoe_cli.report.spread import spread
from smoe_cli.report.summary import header, summary
from smoe_cli.report.verdict import drawing_start
from smoe_cli.report.words import whole

SCRIPTS = ("base.js", "csv.js", "lines.js", "lanes.js", "heat.js", "gallery.js", "main.js")
EXTRACT = 150_000
"""Budget of each of the two grids that the summary repeats, in bytes."""
LIMIT = 4_900_000
"""Most bytes of the page."""
SHARES = (1.0, 0.7, 0.4, 0.2, 0.05)
"""What is tried in turn until the page is below the limit: shares of the budgets of curves, maps, grids, tables and texts."""


def page(run: Run) -> str:
    """The report on `run` as one HTML document, in as much detail as fits."""
    for share in SHARES:
        written = detailed(run, share)
        if len(written.encode("utf-8", errors="replace")) <= LIMIT:
            break
    return written


def detailed(run: Run, share: float) -> str:
    """The document with a share (0–1) of the usual detail."""
    figures = Figures(curves(run, run.metrics, int(POINTS * share)), curves(run, run.timings, int(POINTS * share)))
    frames = routing(run, int(CELLS * share))
    chosen = spread(run.grids, max(2, int(GRIDS * share)))
    pictures = [embed(grid, int(BYTES * share) // max(1, len(chosen))) for grid in chosen]
    extract = [embed(grid, int(EXTRACT * share)) for grid in dict.fromkeys((*chosen[:1], *chosen[-1:]))]
    sections: list[tuple[str, str, Html]] = [
        ("summary", "Summary", summary(run, extract)),
        ("losses", "Losses", training.losses(run, figures)),
        ("schedules", "Schedules", training.schedules(run, figures)),
        ("routing", "Routing", training.routing(run, figures, frames)),
        ("samples", "Samples", gallery(run, pictures)),
        ("evaluation", "Evaluation", results(run, figures, max(2, int(ROWS * share)))),
        ("data", "Data", join([about.data(run), training.tokens(figures)])),
        ("plan", "Plan", about.plan(run)),
        ("recipe", "Recipe", recipe(run, int(LETTERS * share))),
        ("environment", "Environment", about.environment(run)),
    ]
    script = "\n".join(asset(name) for name in SCRIPTS)
    return Template(asset("page.html")).substitute(
        title=text(f"{run.name} · smoe report"),
        policy=policy(script),
        style=asset("report.css"),
        nav=join(el("a", title, href=f"#{name}") for name, title, _ in sections),
        header=header(run),
        sections=join(el("section", el("h2", title, id=name), body) for name, title, body in sections),
        data=embedded(_drawn(run, figures, frames)),
        script=script,
    )


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return (files("smoe_cli.report") / "assets" / name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """Content security policy: no network at all, and no script but this one, whatever a run's texts hold."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def embedded(value: Any) -> str:
    """JSON that may stand inside a script element: no `<`, so nothing in it can end the element or begin a comment."""
    written = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def _drawn(run: Run, figures: Figures, frames: dict[str, Any] | None) -> dict[str, Any]:
    # Of a run that was stopped early at least half of a chart is curve.
    end = min(run.total_steps, 2 * run.last_step) if run.last_step else run.total_steps
    draws = drawing_start(run)
    phases = [
        {"name": span.name, "start": span.start, "steps": min(span.steps, end - span.start)}
        for span in run.phases
        if span.start < end
    ]
    experts = {
        str(group.get("name")): [[whole(i) for i in layer] for layer in listing(group, "experts") if isinstance(layer, list)]
        for group in mappings(run.plan, "groups")
    }
    return {
        "name": run.name,
        "end": end,
        "last": run.last_step,
        "draws": draws if draws is not None and draws < end else None,
        "phases": phases,
        "sets": figures.sets,
        "charts": figures.charts,
        "routing": frames and {**compact(frames), "experts": experts},
    }

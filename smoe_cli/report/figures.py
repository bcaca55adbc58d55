"""Places for charts in the page, and what the script draws in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoe_cli.report.markup import Html, el, join, missing

Line = tuple[str, str, str]
"""(key in the metrics, label, colour: a class of report.css)"""


class Figures:
    """Collects the specifications of charts while the page is written. Charts without data become a sentence."""

    def __init__(self, curves: dict[str, Any], speed: dict[str, Any]):
        self.sets = {"curves": curves, "speed": speed}
        self.charts: dict[str, dict[str, Any]] = {}

    def has(self, key: str, source: str = "curves") -> bool:
        """Whether any value of `key` was logged."""
        return key in self.sets[source]["series"]

    def keys(self, prefix: str) -> list[str]:
        """Logged keys that begin with `prefix`."""
        return [key for key in self.sets["curves"]["series"] if key.startswith(prefix)]

    def alike(self, *keys: str) -> bool:
        """Whether the keys were logged with the same values at every step."""
        series = self.sets["curves"]["series"]
        return all(series.get(key) == series.get(keys[0]) for key in keys)

    def lines(self, name: str, title: str, note: str, lines: Sequence[Line], source: str = "curves", **options: object) -> Html:
        """A line chart. options: `range` [low, high] of the axis, `tools` for the losses' switches, `staircase`, `dots`."""
        return self._figure("lines", name, title, note, lines, source, options)

    def lanes(self, name: str, title: str, note: str, lines: Sequence[Line], scale: str) -> Html:
        """One lane above the other with a common scale, `log` or `unit` (0 to 1); where there is no value a lane is hatched."""
        return self._figure("lanes", name, title, note, lines, "curves", {"scale": scale})

    def _figure(
        self, kind: str, name: str, title: str, note: str, lines: Sequence[Line], source: str, options: dict[str, object]
    ) -> Html:
        present = [line for line in lines if self.has(line[0], source)]
        if not present:
            return el("div", el("p", el("strong", title)), missing("No values were logged."))
        spec = [{"key": key, "label": label, "colour": colour} for key, label, colour in present]
        self.charts[name] = {"kind": kind, "title": title, "from": source, "lines": spec, **options}
        caption = el("figcaption", el("strong", title), " ", el("span", note, class_="note"))
        return el("figure", caption, class_=f"figure {kind}", data_chart=name)


def panel(*figures: Html) -> Html:
    """Figures side by side where there is room."""
    return el("div", join(figures), class_="panel")

"""The sections that are curves over steps: losses and gradients, schedules, routing, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoe_cli.recipe.nodes import MODALITIES
from smoe_cli.report.figures import Figures, Line, panel
from smoe_cli.report.load import Run
from smoe_cli.report.lookup import listing, mapping
from smoe_cli.report.markup import Html, el, join, missing
from smoe_cli.report.verdict import drawing_sources

CYCLE = ("a", "b", "c", "d", "e", "f")
"""Colours of lines that are no modality; each also has its own dashes."""
KNOWN = frozenset({"loss/total", "loss/text", "loss/flow", "loss/balance"})


def losses(run: Run, figures: Figures) -> Html:
    """Loss curves and gradient norms."""
    if not run.metrics:
        return missing("metrics.jsonl holds no steps yet: there are no curves.")
    drawing = set(drawing_sources(run))
    sources = _lines(figures, "loss/source/", list(mapping(run.recipe, "data", "sources")))
    text = _with_whole(figures, "loss/text", "all text", [line for line in sources if line[1] not in drawing])
    flow = _with_whole(figures, "loss/flow", "all drawings", [line for line in sources if line[1] in drawing])
    charts = [
        figures.lines("loss", "Whole loss", "Weighted sum, as optimised.", [("loss/total", "total", "ink")], tools=True),
        figures.lines("loss-text", "Text", "Cross-entropy, nats per target token.", text, tools=True),
    ]
    if drawing or figures.has("loss/flow"):
        charts.append(figures.lines("loss-flow", "Drawing", "Flow matching, mean square per latent value.", flow, tools=True))
    note = "Load balance, added up over groups: 1 for each group whose tokens are spread evenly."
    charts.append(figures.lines("loss-balance", "Balance", note, [("loss/balance", "balance", "ink")], tools=True))
    others = [line for line in _lines(figures, "loss/") if line[0] not in KNOWN and not line[1].startswith("source/")]
    if others:
        charts.append(figures.lines("loss-other", "Other parts", "", others, tools=True))
    merged = figures.sets["curves"]["merged"]
    thinned = (
        f"{len(run.metrics):,} steps were logged. On this page, and in its CSV files, each point of a curve stands for up to "
        f"{merged} of them: the mean, with a band from the lowest to the highest; of rates and shields the last value."
    )
    tools = el(
        "p",
        el("label", el("input", type="checkbox", data_option="smooth"), " smooth"),
        el("label", el("input", type="checkbox", data_option="log"), " log scale"),
        class_="tools",
    )
    gradients = [figures.lines("grad", "Whole gradient", "Norm before clipping.", [("grad_norm", "norm", "ink")])]
    if roles := _roles(run, figures, "grad_norm/"):
        gradients.append(figures.lanes("grad-roles", "By role", "Norm, log scale, the same for all lanes.", roles, "log"))
    return join(
        [el("p", thinned, class_="note") if merged > 1 else "", tools, panel(*charts), el("h3", "Gradients"), panel(*gradients)]
    )


def schedules(run: Run, figures: Figures) -> Html:
    """Learning rates and shields as they were applied."""
    note = "Log scale, the same for all lanes; the floor of a lane is exactly 0. Hatched: frozen."
    rates = figures.lanes("rates", "Learning rate by role", note, _roles(run, figures, "lr/"), "log")
    shields = [(key, _shield(label), "ink") for key, label, _ in _lines(figures, "shield/")]
    if not shields:
        return panel(rates, el("p", el("strong", "Shields"), " ", el("span", "No gradient was shielded.", class_="note")))
    note = "Factor on the gradient that a modality's tokens send back through a module: 0 cuts, 1 is open. Hatched: no shield."
    return panel(rates, figures.lanes("shields", "Shields", note, shields, "unit"))


def routing(run: Run, figures: Figures, frames: dict[str, Any] | None) -> Html:
    """The heat map and what it sums up to over time."""
    if frames is None:
        heat = missing("routing.jsonl holds no counts yet: there is no heat map.")
    else:
        note = (
            "Share of a layer's tokens that each expert receives, relative to an even spread over the experts of its group "
            "(1 = even). Rows are layers, columns experts. Hatched experts belong to a group that does not serve the modality."
        )
        if frames["merged"] > 1:
            note += f" Each frame sums up to {frames['merged']} logged steps."
        caption = el("figcaption", el("strong", "Who goes where"), " ", el("span", note, class_="note"))
        heat = el("figure", caption, class_="figure heat", data_heat=True)
    used = "Share of a group's experts that get at least a tenth of an even share of a modality's tokens; mean over layers."
    fits = "Share of a modality's tokens that would fit if every expert took at most 1.25 times an even share. None is dropped."
    return join(
        [
            heat,
            panel(
                figures.lines("utilisation", "Utilisation", used, _modalities(figures, "routing/utilisation/"), range=[0, 1]),
                figures.lines("capacity", "Capacity rate", fits, _modalities(figures, "routing/capacity/"), range=[0, 1]),
            ),
        ]
    )


def tokens(figures: Figures) -> Html:
    """Tokens of each modality, and the speed."""
    speed = [("tokens_per_second", "tokens per second", "ink")]
    return panel(
        figures.lines(
            "tokens",
            "Tokens",
            "Since the logged step before.",
            _modalities(figures, "tokens/"),
            range=[0, None],
            staircase=True,
        ),
        figures.lines("speed", "Speed", "Tokens per second.", speed, source="speed", range=[0, None]),
    )


def _lines(figures: Figures, prefix: str, order: Sequence[str] = ()) -> list[Line]:
    """Every logged key with the prefix, named by its rest: those in `order` first, then by name."""
    names = [key.removeprefix(prefix) for key in figures.keys(prefix)]
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    return [(prefix + name, name, CYCLE[i % len(CYCLE)]) for i, name in enumerate(names)]


def _with_whole(figures: Figures, whole: str, label: str, parts: list[Line]) -> list[Line]:
    """The sources of a loss under their common mean; a source that is the only one stands alone, under its name."""
    if len(parts) == 1 and figures.alike(whole, parts[0][0]):
        return [(whole, parts[0][1], "ink")]
    return [(whole, label, "ink"), *((key, name, CYCLE[i % len(CYCLE)]) for i, (key, name, _) in enumerate(parts))]


def _roles(run: Run, figures: Figures, prefix: str) -> list[Line]:
    order = [str(role) for role in listing(run.plan, "roles")]
    return [(key, role, "ink") for key, role, _ in _lines(figures, prefix, order)]


def _modalities(figures: Figures, prefix: str) -> list[Line]:
    return [(key, name, name if name in MODALITIES else colour) for key, name, colour in _lines(figures, prefix, MODALITIES)]


def _shield(label: str) -> str:
    module, _, modality = label.rpartition("/")
    return f"{modality} → {module}"

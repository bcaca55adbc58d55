"""The section of samples: the same prompts from the same noise, at several steps."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_cli.report.load import Run
from smoe_cli.report.lookup import get, listing, mapping
from smoe_cli.report.markup import Html, el, join, missing
from smoe_cli.report.samples import Picture, image
from smoe_cli.report.values import NONE, measured, whole_number
from smoe_cli.report.words import clip

PROMPTS = 64
"""Most captions listed."""


def gallery(run: Run, pictures: Sequence[Picture]) -> Html:
    """The first grid, and beside it the others; the script puts them in one place, behind a slider over the steps."""
    if not pictures:
        return missing("No samples were drawn: samples.jsonl holds no grid.")
    drawn = len(run.grids)
    parts = [_settings(run)]
    if len(pictures) < drawn:
        told = f"{len(pictures)} of {drawn} grids, evenly spread; the others are in the run's samples folder."
        parts.append(el("p", told, class_="note"))
    same = len({picture.grid.prompts for picture in pictures}) == 1
    if same:
        parts.append(_prompts(pictures[0].grid.prompts))
    figures = [_figure(picture, alone=not same) for picture in pictures]
    tall = any(picture.height > 0.35 * picture.width for picture in pictures)
    flip = [el("div", *figures[1:], class_="flip")] if figures[1:] else []
    shape = "gallery tall" if tall else "gallery"
    return join([*parts, el("div", figures[0], *flip, class_=shape, data_gallery=True)])


def _settings(run: Run) -> Html:
    """What is the same for all grids, and so what differences between them are not due to."""
    sampling = mapping(run.recipe, "training", "sampling")
    seed = whole_number(run.recipe.get("seed"), "seed")
    if not sampling:
        return el("p", "Every grid has the same prompts and the same noise, from seed ", seed, ".", class_="note")
    told: list[object] = ["Every grid is drawn from the same noise (seed ", seed, ") by the same settings: "]
    told += [
        whole_number(sampling.get("steps"), "sampling steps"),
        " Euler steps, shift ",
        measured(sampling.get("shift"), "shift"),
    ]
    told += [", guidance ", measured(sampling.get("guidance"), "guidance")]
    low, high = (measured(bound, "guidance from") for bound in (listing(sampling, "guidance_interval") or [None, None])[:2])
    if NONE not in (low, high):
        told += [" at times ", low, " to ", high]
    if get(run.recipe, "training", "ema", "decay"):
        told.append(", with the averaged weights (EMA)")
    return el("p", *told, ". What differs is the step.", class_="note")


def _figure(picture: Picture, alone: bool) -> Html:
    grid = picture.grid
    phase = f" · {grid.phase}" if grid.phase else ""
    about = ["step ", whole_number(grid.step, "step of a grid"), phase, " · reduced for this page" if picture.reduced else ""]
    body = image(picture, 540) if picture.uri else missing(f"{picture.problem}.")
    caption = el("figcaption", *about, _prompts(grid.prompts) if alone else "")
    return el("figure", caption, body, class_="sample", data_step=grid.step)


def _prompts(prompts: Sequence[str]) -> Html:
    if not prompts:
        return el("p", "No prompts were recorded.", class_="note")
    items = [el("li", clip(prompt, 200)) for prompt in prompts[:PROMPTS]]
    more = el("p", f"and {len(prompts) - PROMPTS} more", class_="note") if len(prompts) > PROMPTS else ""
    return el("div", el("p", "Prompts, in reading order:", class_="note"), el("ol", *items, class_="prompts"), more)

"""The first screen: what was trained, whether understanding survived, whether drawing emerged."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from smoe_cli.report.load import Run
from smoe_cli.report.lookup import get, listing, mapping, mappings
from smoe_cli.report.markup import Html, el, join, missing
from smoe_cli.report.results import bar, counted
from smoe_cli.report.samples import Picture
from smoe_cli.report.verdict import Verdict, drawing_sources, drawing_start, others, understanding
from smoe_cli.report.words import count, digits, duration, number, percent, points, short, whole

JUDGEMENT = {
    "rose": "Improved",
    "fell": "Got worse",
    "kept": "Kept",
    "nothing": "Nothing to keep",
    "unknown": "Not comparable",
}


def header(run: Run) -> Html:
    """Title, purpose, how far the run got, and its phases to scale."""
    description = run.recipe.get("description")
    return join(
        [
            el("p", "smoe report", class_="kicker"),
            el("h1", run.name),
            el("p", description, class_="lead") if description else "",
            el("p", *_status(run), class_="status"),
            _timeline(run),
        ]
    )


def summary(run: Run, pictures: Sequence[Picture]) -> Html:
    """Both questions answered, then sizes. `pictures`: the first and the last grid, for this place."""
    return join(
        [
            el("div", _reading(run), _drawing(run, pictures), class_="answers"),
            el("h3", "What was trained"),
            _facts(run),
            _notes(run),
        ]
    )


def _status(run: Run) -> list[object]:
    done, planned = count(run.last_step), count(run.total_steps)
    if run.finished:
        return [el("b", "Finished", class_="good"), f" · {planned} steps" if run.last_step else " · no step was logged"]
    if not run.last_step:
        return [el("b", "No step logged yet", class_="bad"), f" · {planned} steps planned"]
    return [el("b", "Not finished", class_="bad"), f" · last trace at step {done} of {planned}"]


def _timeline(run: Run) -> Html:
    if not run.phases:
        return Html("")
    drawing = set(drawing_sources(run))
    mixtures = [set(mapping(phase, "mixture")) for phase in mappings(run.recipe, "phases")]
    items = []
    for index, span in enumerate(run.phases):
        draws = index < len(mixtures) and drawing & mixtures[index]
        label = [el("b", span.name), f" {count(span.steps)} steps", " · draws" if draws else ""]
        items.append(el("li", *label, class_="draws" if draws else None, style=f"flex-grow:{span.steps}"))
    return el("ol", *items, class_="timeline", aria_label="Phases, in order")


def _reading(run: Run) -> Html:
    verdicts = understanding(run)
    parts: list[Html] = [el("h3", "Did understanding survive?")]
    if not verdicts:
        parts.append(missing("Nothing was evaluated yet: eval/ holds no result of an understanding task."))
    parts += [_verdict(verdict, drawing_start(run) is not None) for verdict in verdicts]
    if any(verdict.change for verdict in verdicts):
        parts.append(
            el(
                "p",
                "Intervals are 95 %. “Kept” means that the interval of the change includes 0; few questions make it wide.",
                class_="note",
            )
        )
    return el("div", *parts, class_="answer")


def _verdict(verdict: Verdict, draws: bool) -> Html:
    before, after = verdict.before, verdict.after
    if before is None:
        rest = (
            "there is no earlier result to compare with"
            if not draws
            else "there is no result from before drawing to compare with"
        )
        return el(
            "div", _big(verdict.task, after.share, counted(after)), el("p", f"After {after.when}; {rest}."), class_="verdict"
        )
    css = {"rose": "good", "fell": "bad"}.get(verdict.word, "")
    sentence: list[object] = [el("b", JUDGEMENT[verdict.word], class_=css)]
    if verdict.word == "nothing":
        sentence.append(f": no question was answered right after {before.when}.")
    elif verdict.change:
        change, low, high = verdict.change
        since = " since drawing began" if draws else ""
        sentence.append(f"{since}: {points(change)} points (interval {points(low)} to {points(high)}).")
    elif verdict.obstacle:
        sentence.append(f": {verdict.obstacle}.")
    else:
        sentence.append(": the results do not say how many questions were answered.")
    rows = [
        el("tr", el("th", f"after {score.when}", scope="row"), el("td", counted(score), class_="n"), el("td", bar(score)))
        for score in (before, after)
    ]
    return el(
        "div",
        _big(verdict.task, after.share, counted(after)),
        el("table", el("tbody", *rows)),
        el("p", *sentence),
        class_="verdict",
    )


def _big(task: str, share: float | None, counts: str) -> Html:
    return el(
        "p",
        el("span", percent(share), class_="big"),
        " ",
        el("span", f"{task} · {counts}" if counts != "–" else task),
        class_="headline",
    )


def _drawing(run: Run, pictures: Sequence[Picture]) -> Html:
    parts: list[Html] = [el("h3", "Did drawing emerge?")]
    values = [(row["step"], value) for row in run.metrics if (value := number(row.get("loss/flow"))) is not None]
    shown = [picture for picture in pictures if picture.uri]
    if not drawing_sources(run) and not values and not shown:
        return el("div", *parts, el("p", "This run trains no drawing: no phase has a source with task t2i."), class_="answer")
    if values:
        (first, start), (last, end) = values[0], values[-1]
        parts.append(
            el(
                "p",
                el("span", digits(end), class_="big"),
                " ",
                el("span", f"flow loss at step {count(last)}"),
                class_="headline",
            )
        )
        if last > first:
            parts.append(el("p", f"It was {digits(start)} at step {count(first)}, where it was first logged."))
    else:
        parts.append(missing("No drawing loss was logged yet."))
    parts += [
        el("p", el("b", percent(score.share)), f" {name} · {counted(score)}, after {score.when}") for name, score in others(run)
    ]
    if not shown:
        parts.append(missing("No samples were drawn yet."))
    figures = []
    for picture in shown:
        grid = picture.grid
        alt = f"Samples at step {grid.step}" + (f", for: {', '.join(grid.prompts[:12])}" if grid.prompts else "")
        caption = el("figcaption", f"step {count(grid.step)}" + (" (last grid)" if picture is shown[-1] else " (first grid)"))
        figures.append(el("figure", image(picture, alt, 420), caption, class_="sample"))
    tall = any(picture.height > 0.35 * picture.width for picture in shown)
    parts.append(el("div", *figures, class_="pair" if tall else None))
    if shown and shown[-1].grid.prompts:
        prompts = shown[-1].grid.prompts
        parts.append(el("p", f"Asked for: {clip(' · '.join(clip(prompt, 80) for prompt in prompts), 300)}", class_="note"))
    return el("div", *parts, class_="answer")


def image(picture: Picture, alt: str, room: int) -> Html:
    """The picture at a whole multiple of its size that fits `room` pixels."""
    scale = max(1, min(4, room // max(1, picture.width)))
    style = "image-rendering:pixelated" if scale > 1 else None
    return el("img", src=picture.uri, width=picture.width * scale, height=picture.height * scale, alt=alt, style=style)


def clip(text: str, most: int) -> str:
    """At most `most` characters, with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _facts(run: Run) -> Html:
    plan, scratch = run.plan, mapping(run.recipe, "model", "backbone", "scratch")
    facts: list[tuple[str, object]] = []
    if scratch:
        layers, width = count(scratch.get("num_hidden_layers")), count(scratch.get("hidden_size"))
        facts.append(("Backbone", f"{scratch.get('family')}, fresh weights, {layers} layers of width {width}"))
    groups = [_group(group) for group in mappings(plan, "groups")]
    if groups:
        top = scratch.get("num_experts_per_tok")
        facts.append(("Experts per layer", f"{' + '.join(groups)}" + (f"; {count(top)} per token" if top else "")))
    if shared := _shared(run):
        facts.append(("Shared experts", shared))
    if parameters := mapping(plan, "parameters"):
        facts.append(
            (
                "Parameters",
                f"{short(parameters.get('total'))} in all; {count(parameters.get('added'))} added to the backbone by the split",
            )
        )
    active = [f"{modality} {short(get(value, 'total'))}" for modality, value in mapping(plan, "active").items()]
    if active:
        facts.append(("Active per token", " · ".join(active)))
    if seen := _tokens(run):
        facts.append(("Trained on", f"{short(seen)} tokens"))
    seconds = [value for row in run.timings if (value := number(row.get("seconds"))) is not None]
    if seconds:
        facts.append(("Time in training", duration(sum(seconds))))
    speeds = [value for row in run.timings if (value := number(row.get("tokens_per_second"))) is not None]
    if speeds:
        facts.append(("Speed", f"{short(median(speeds))} tokens per second (median)"))
    if device := run.environment.get("device"):
        facts.append(("Device", device))
    skipped = max((number(row.get("skipped_steps")) or 0 for row in run.metrics), default=0)
    if skipped:
        facts.append(("Skipped steps", el("b", f"{count(skipped)} with a non-finite loss or gradient", class_="bad")))
    if not facts:
        return missing("Neither the recipe nor the plan could be read.")
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in facts), class_="facts")


def _shared(run: Run) -> str:
    """How many experts are always on, whose they are and whom they serve; empty when neither recipe nor plan tells."""
    model, roles = mapping(run.recipe, "model"), listing(run.plan, "roles")
    upcycle, shared = mapping(model, "backbone", "upcycle"), mapping(model, "shared")
    own = bool(mapping(model, "backbone", "pretrained")) and not upcycle
    promoted = len(listing(run.plan, "promoted", 0)) or whole(shared.get("promote"))
    copies = whole(upcycle.get("shared"))
    if promoted:
        number = f"{count(promoted)} promoted"
    elif get(model, "shared") == "none" or copies == 0 or (own and roles and "shared" not in roles):
        return "none; the checkpoint's own are left out" if whole(get(run.plan, "parameters", "left_out")) else "none"
    elif copies:
        number = f"{count(copies)} {'copy' if copies == 1 else 'copies'}"
    elif own and roles:
        number = "the checkpoint's own"
    elif shared:
        number = count(whole(shared.get("count")) or 1)
    else:
        return ""
    served = served_by_shared(run)
    return number + (f" for {', '.join(served)}" if served else "")


def served_by_shared(run: Run) -> list[str]:
    """Modalities whose tokens pass the experts that are always on, of those that the model has."""
    here = list(mapping(run.plan, "active"))
    named = [str(modality) for modality in listing(run.recipe, "model", "shared", "modalities")]
    return [modality for modality in named if modality in here] if named and here else named or here


def _group(group: dict[str, Any]) -> str:
    size = len(listing(group, "experts", 0))
    return f"{count(size)} {group.get('name')} ({', '.join(map(str, listing(group, 'modalities')))})"


def _tokens(run: Run) -> int:
    """Tokens up to the last step that left a trace."""
    total = 0
    for span, phase in zip(run.phases, mappings(run.plan, "phases"), strict=False):
        done = span.steps if run.finished else min(max(run.last_step - span.start, 0), span.steps)
        total += done * int(number(phase.get("tokens_per_step")) or 0)
    return total


def _notes(run: Run) -> Html:
    if not run.notes:
        return Html("")
    return el("div", el("h3", "What this report lacks"), el("ul", *(el("li", note) for note in run.notes)), class_="notes")

"""The first screen: what was trained and from what, whether understanding survived, whether drawing emerged."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from smoe_cli.eval.compare.paired import Comparison
from smoe_cli.report.evaluations import Score
from smoe_cli.report.load import Run
from smoe_cli.report.lookup import get, mapping, mappings
from smoe_cli.report.markup import Html, el, join, missing
from smoe_cli.report.results import bar, bounds, difference, shown, warnings
from smoe_cli.report.samples import Picture, image
from smoe_cli.report.story import story
from smoe_cli.report.values import fraction, measured, rounded, value, whole_number
from smoe_cli.report.verdict import Verdict, drawing, drawing_sources, drawing_start, understanding
from smoe_cli.report.words import clip, number

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
            el("p", el("span", *_status(run)), class_="status"),
            _timeline(run),
        ]
    )


def summary(run: Run, pictures: Sequence[Picture]) -> Html:
    """What it is, both questions answered, sizes. `pictures`: the first and the last grid, for this place."""
    answers = el("div", _reading(run), _drawing(run, pictures), class_="answers")
    return join([story(run), answers, _facts(run), _notes(run)])


def _status(run: Run) -> list[object]:
    done, planned = whole_number(run.last_step, "last step"), whole_number(run.total_steps, "steps planned")
    if run.finished:
        return (
            [el("b", "Finished", class_="good"), " · ", planned, " steps"]
            if run.last_step
            else ["Finished · no step was logged"]
        )
    if not run.last_step:
        return [el("b", "No step logged yet", class_="bad"), " · ", planned, " steps planned"]
    return [el("b", "Not finished", class_="bad"), " · last trace at step ", done, " of ", planned]


def _timeline(run: Run) -> Html:
    if not run.phases:
        return Html("")
    drawing = set(drawing_sources(run))
    mixtures = [set(mapping(phase, "mixture")) for phase in mappings(run.recipe, "phases")]
    items = []
    for index, span in enumerate(run.phases):
        draws = index < len(mixtures) and drawing & mixtures[index]
        label = [el("b", span.name), whole_number(span.steps, f"steps of {span.name}"), " steps", " · draws" if draws else ""]
        items.append(el("li", *label, class_="draws" if draws else None, style=f"flex-grow:{span.steps}"))
    return el("ol", *items, class_="timeline", aria_label="Phases, in order")


def _reading(run: Run) -> Html:
    verdicts = understanding(run)
    parts: list[Html] = [el("h3", "Did understanding survive?")]
    if not verdicts:
        parts.append(missing("Nothing to judge by: eval/ holds no result of an understanding task that can be read."))
    since = "since drawing began" if drawing_start(run) is not None else "since the first result"
    parts += [_verdict(verdict, since) for verdict in verdicts]
    return el("div", *parts, _method(verdicts), class_="answer")


def _method(verdicts: Sequence[Verdict]) -> Html:
    """How the changes were judged, once for all verdicts."""
    told = [verdict.change for verdict in verdicts if verdict.change and verdict.word != "nothing"]
    used = dict.fromkeys(change.method for change in told if change.method)
    if not used:
        return Html("")
    note = f"Intervals are 95 %; changes: {'; '.join(used)}. “Kept” means that chance alone may have done it."
    return el("p", note, class_="note")


def _verdict(verdict: Verdict, since: str) -> Html:
    before, after = verdict.before, verdict.after
    if before is None:
        return el("div", _big(verdict), _scores([after]), warnings([after]), el("p", verdict.lacks), class_="verdict")
    css = {"rose": "good", "fell": "bad"}.get(verdict.word, "")
    sentence: list[object] = [el("b", JUDGEMENT[verdict.word], class_=css)]
    if verdict.word == "nothing":
        sentence.append(f": no question was answered right after {before.when}.")
    elif verdict.change and verdict.change.interval:
        unit = " points" if after.main.count else ""
        sentence += [f" {since}: ", difference(after.main, verdict.change), unit, *_answers(verdict.change), "."]
    elif verdict.obstacle:
        sentence.append(f": {verdict.obstacle}.")
    elif verdict.change:
        sentence = [
            el("b", "Lower" if verdict.change.value < 0 else "Higher"),
            f" {since}: ",
            difference(after.main, verdict.change),
        ]
        sentence.append(". The results have no standard error, so nothing tells what chance alone would do.")
    both = [before, after]
    return el("div", _big(verdict), _scores(both), warnings(both), el("p", *sentence), class_="verdict")


def _answers(change: Comparison) -> list[object]:
    """Of paired answers: which way they went, and how likely that is by chance."""
    told: list[object] = []
    if change.discordant:
        lost, gained = (
            whole_number(n, f"answers that became {how}") for n, how in zip(change.discordant, ("wrong", "right"), strict=True)
        )
        told += ["; ", gained, " answers became right, ", lost, " wrong"]
    if change.p is not None:
        told += [", ", value(change.p, "p < 0.001" if change.p < 0.001 else f"p = {change.p:.2g}", "p")]
    return told


def _scores(scores: Sequence[Score]) -> Html:
    rows = []
    for score in scores:
        main = score.main
        counted = [el("td", fraction(main.count), class_="n"), el("td", bar(main), class_="drawn")] if main.count else []
        cells = [el("td", shown(main, score.name), class_="n"), *counted, el("td", bounds(main), class_="n")]
        rows.append(el("tr", el("th", score.when, scope="row"), *cells))
    return el("table", el("caption", "Result after each, with 95 % interval", class_="hidden"), el("tbody", *rows))


def _big(verdict: Verdict) -> Html:
    main = verdict.after.main
    lower = ", lower is better" if main.better == "lower" else ""
    return el(
        "p",
        el("span", shown(main, verdict.after.name), class_="big"),
        " ",
        el("span", f"{verdict.task} ({verdict.after.name}{lower})"),
        class_="headline",
    )


def _drawing(run: Run, pictures: Sequence[Picture]) -> Html:
    parts: list[Html] = [el("h3", "Did drawing emerge?")]
    values = [(row["step"], found) for row in run.metrics if (found := number(row.get("loss/flow"))) is not None]
    shown = [picture for picture in pictures if picture.uri]
    verdicts = drawing(run)
    if not drawing_sources(run) and not values and not shown and not verdicts:
        return el("div", *parts, el("p", "This run trains no drawing: no phase has a source with task t2i."), class_="answer")
    parts += [_verdict(verdict, "since the first result") for verdict in verdicts]
    parts.append(_method(verdicts))
    if values:
        parts.append(_flow(values, big=not verdicts))
    else:
        parts.append(missing("No drawing loss was logged yet."))
    if not shown:
        parts.append(missing("No samples were drawn yet."))
    figures = []
    for picture in shown:
        which = " (last grid)" if picture is shown[-1] else " (first grid)"
        caption = el("figcaption", "step ", whole_number(picture.grid.step, "step of a grid"), which)
        figures.append(el("figure", image(picture, 420), caption, class_="sample"))
    tall = any(picture.height > 0.35 * picture.width for picture in shown)
    parts.append(el("div", *figures, class_="pair" if tall else None))
    if shown and shown[-1].grid.prompts:
        prompts = shown[-1].grid.prompts
        parts.append(el("p", f"Asked for: {clip(' · '.join(clip(prompt, 80) for prompt in prompts), 300)}", class_="note"))
    return el("div", *parts, class_="answer")


def _flow(values: Sequence[tuple[int, float]], big: bool) -> Html:
    """The flow loss, then and now. big: whether it is the number of the section."""
    (first, start), (last, end) = values[0], values[-1]
    then = [measured(start, "first flow loss"), " at step ", whole_number(first, "its step")]
    at = [" at step ", whole_number(last, "its step")]
    if not big:
        before = ["Flow loss: ", *then, ", "] if last > first else ["Flow loss: "]
        return el("p", *before, measured(end, "last flow loss"), *at, ".")
    headline = [
        el("span", measured(end, "last flow loss"), class_="big"),
        " ",
        el("span", "flow loss", *at, ", lower is better"),
    ]
    began = el("p", "It was ", *then, ", where it was first logged.") if last > first else ""
    return join([el("p", *headline, class_="headline"), began])


def _facts(run: Run) -> Html:
    facts: list[tuple[str, Html]] = []
    if (added := number(get(run.plan, "parameters", "added"))) is not None:
        facts.append(("Parameters added to the plain decoder", rounded(added, "added")))
    active = [
        join([modality, " ", rounded(get(size, "total"), modality)]) for modality, size in mapping(run.plan, "active").items()
    ]
    if active:
        facts.append(("Active parameters for a token", join(active, " · ")))
    speeds = [found for row in run.timings if (found := number(row.get("tokens_per_second"))) is not None]
    if speeds:
        facts.append(("Speed", join([rounded(median(speeds), "tokens per second"), " tokens per second (median)"])))
    skipped = max((number(row.get("skipped_steps")) or 0 for row in run.metrics), default=0)
    if skipped:
        told = el("b", whole_number(skipped, "skipped steps"), " with a non-finite loss or gradient", class_="bad")
        facts.append(("Skipped steps", told))
    if not facts:
        return Html("") if run.recipe else missing("Neither the recipe nor the plan could be read.")
    return el("dl", *(el("div", el("dt", name), el("dd", fact)) for name, fact in facts), class_="facts")


def _notes(run: Run) -> Html:
    if not run.notes:
        return Html("")
    return el("div", el("h3", "What this report lacks"), el("ul", *(el("li", note) for note in run.notes)), class_="notes")

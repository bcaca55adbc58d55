"""The section of evaluation results: every number with its counts, its interval and how it was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smoe_cli.eval.compare.paired import Comparison
from smoe_cli.eval.results import Count, Metric
from smoe_cli.report.evaluations import Score, change, interval
from smoe_cli.report.figures import Figures
from smoe_cli.report.load import Row, Run
from smoe_cli.report.lookup import listing, mapping
from smoe_cli.report.markup import Html, el, join, missing, table
from smoe_cli.report.scores import charts
from smoe_cli.report.spread import spread
from smoe_cli.report.values import NONE, estimate, fraction, measured, share, span, value, whole_number
from smoe_cli.report.verdict import histories
from smoe_cli.report.words import number, points, signed, whole

FINE = 8
"""Most groups that are shown without folding."""
ROWS = 60
"""Most results of a task in its tables; curves hold all of them."""
HASH = re.compile(r"[0-9a-f]{40,}")
"""What is shown by its beginning; the CSV files hold all of it."""


def results(run: Run, figures: Figures, most: int = ROWS) -> Html:
    """For each task: curves where it was measured often, a table by step; finer groups and the protocol fold out.

    most: results of a task in its tables; of more the first, the last and some between.
    """
    tasks = histories(run)
    if not tasks:
        return missing("eval/ holds no result yet.")
    parts = []
    for name, scores in tasks.items():
        drawn, kept = charts(run, figures, name, scores), spread(scores, most)
        told = f"The tables hold {len(kept)} of {len(scores)} results, evenly spread; the run's eval folder has all."
        thinned = el("p", told, class_="note") if len(kept) < len(scores) else ""
        body = [el("h3", name), drawn, warnings(scores), thinned, _over_time(name, kept), _groups(name, spread(scores, 6))]
        parts.append(el("section", *body, _protocol(name, kept)))
    return join(parts)


def bar(metric: Metric) -> Html:
    """A share from 0 to 1 with its interval, drawn. Decoration: the numbers stand beside it."""
    found = interval(metric)
    if not metric.count or not found:
        return Html("")
    x, low, high = (200 * min(max(edge, 0.0), 1.0) for edge in (metric.value, *found))
    return Html(
        '<svg class="bar" viewBox="0 0 200 10" width="200" height="10" aria-hidden="true">'
        '<path class="axis" d="M0 5H200M0 2V8M100 3V7M200 2V8"/>'
        f'<path class="range" d="M{low:.1f} 5H{high:.1f}"/><circle cx="{x:.1f}" cy="5" r="3.5"/></svg>'
    )


def shown(metric: Metric, key: str | None = None) -> Html:
    """The value of a metric: per cent of a share, else the digits that its standard error leaves."""
    return _write(metric, metric.value, key)


def bounds(metric: Metric) -> Html:
    """Its 95 % interval."""
    found = interval(metric)
    return span(_write(metric, found[0], "low"), _write(metric, found[1], "high")) if found else NONE


def _write(metric: Metric, raw: float | None, key: str | None) -> Html:
    return share(raw, key) if metric.count else estimate(raw, metric.standard_error, key)


def difference(metric: Metric, found: Comparison) -> Html:
    """A change with its interval, where there is one; of shares in points."""
    scale, write = (100, lambda v: points(v / 100)) if metric.count else (1, signed)

    def written(raw: float, key: str) -> Html:
        return value(round(scale * raw, 9), write(scale * raw), key)

    change = written(found.value, "change")
    if not found.interval:
        return change
    return join([change, " (", span(written(found.interval[0], "low"), written(found.interval[1], "high")), ")"])


def _over_time(name: str, scores: Sequence[Score]) -> Html:
    """A row for each result: the main metric in full, the others with their standard error."""
    first = scores[-1].name
    main = scores[-1].main
    others = list(dict.fromkeys(other for score in scores for other in score.metrics if other != first))
    rows: list[list[object]] = []
    methods: list[str] = []
    before: Score | None = None
    for score in scores:
        found = score.metrics.get(first)
        row: list[object] = [score.when, whole_number(score.step), *(_full(found) if found else [NONE] * 4)]
        moved: object = NONE
        if before is not None and (obstacle := score.obstacle(before)):
            moved = el("span", f"– ({obstacle})", class_="why")
        elif before is not None and found:
            compared = change(before, score)
            moved = difference(found, compared)
            methods += [compared.method] if compared.method else []
        rows.append([*row, moved, *(_other(score.metrics.get(other)) for other in others)])
        before = score
    kind = ["correct", "0 to 100 %"] if main.count else ["standard error"]
    moved_by = "change since the row above" + (", in points" if main.count else "")
    head = ["measured after", "step", _label(first, main), *kind, "95 % interval", moved_by]
    heads = [*head, *(_label(other, _find(scores, other)) for other in others)]
    note = el("p", f"Changes: {'; '.join(dict.fromkeys(methods))}.", class_="note") if methods else ""
    right = [index for index, title in enumerate(heads) if index and title != "0 to 100 %"]
    return join([note, table(name, heads, rows, numeric=right)])


def _full(metric: Metric) -> list[object]:
    middle = [fraction(metric.count), bar(metric)] if metric.count else [_write(metric, metric.standard_error, None)]
    return [shown(metric), *middle, bounds(metric)]


def _other(metric: Metric | None) -> Html:
    if metric is None:
        return NONE
    if metric.count:
        return join([share(metric.value, "share"), " ", fraction(metric.count)])
    error = [" ± ", _write(metric, metric.standard_error, "standard error")] if metric.standard_error is not None else []
    return join([_write(metric, metric.value, "value"), *error])


def _find(scores: Sequence[Score], name: str) -> Metric:
    return next(score.metrics[name] for score in scores if name in score.metrics)


def _label(name: str, metric: Metric) -> str:
    return f"{name} (lower is better)" if metric.better == "lower" else name


def _groups(name: str, scores: Sequence[Score]) -> Html:
    """Rows are groups, columns the results."""
    parts = []
    for level, title in (("groups", "By group"), ("subgroups", "By subgroup")):
        names = list(dict.fromkeys(group for score in scores for group in mapping(score.row, level)))
        if len(names) < 2 or (level == "subgroups" and names == list(mapping(scores[-1].row, "groups"))):
            continue
        rows = [[group, *(_pair(mapping(score.row, level, group)) for score in scores)] for group in names]
        head = ["group", *(score.when for score in scores)]
        fold = el("summary", f"{title} ({len(names)})")
        listed = table(f"{name} {title.lower()}", head, rows, range(1, len(head)))
        parts.append(el("details", fold, listed, open=len(names) <= FINE))
    return join(parts)


def _pair(counts: Row) -> Html:
    """{correct, total} as `77/100 (77.0 %)`."""
    correct, total = whole(counts.get("correct")), whole(counts.get("total"))
    if correct is None or not total:
        return NONE
    count = Count(correct, total)
    return join([fraction(count), " (", share(count.share, "share"), ")"])


def warnings(scores: Sequence[Score]) -> Html:
    """What the results themselves say against being taken at face value, such as a test set of which only a part was asked."""
    found = dict.fromkeys(str(warning) for score in scores for warning in listing(score.row, "warnings"))
    return el("ul", *(el("li", warning) for warning in found), class_="warnings") if found else Html("")


def _protocol(name: str, scores: Sequence[Score]) -> Html:
    """How it was measured: what all results have in common, and for each result what differs."""
    flat = [_flat(score) for score in scores]
    keys = list(dict.fromkeys(key for facts in flat for key in facts))
    same = [key for key in keys if len({str(facts.get(key)) for facts in flat}) == 1]
    common = table(f"{name} protocol", ["what", "value"], [[key, _cell(flat[0].get(key))] for key in same])
    differ = [key for key in keys if key not in same]
    if not differ:
        return el("details", el("summary", "How it was measured"), common)
    rows = [[score.when, *(_cell(facts.get(key)) for key in differ)] for score, facts in zip(scores, flat, strict=True)]
    each = [
        el("p", "What differs between the results:", class_="note"),
        table(f"{name} results", ["measured after", *differ], rows),
    ]
    return el("details", el("summary", "How it was measured"), common, *each)


def _flat(score: Score) -> dict[str, Any]:
    facts = {
        "task version": score.row["task_version"],
        "file": Path(str(score.row.get("file"))).name,
        "time": score.row.get("time"),
    }
    facts["seconds"] = score.row.get("seconds")
    for part in ("protocol", "details", "circumstances", "model", "versions", "hashes"):
        facts |= {f"{part}: {key}": found for key, found in _leaves(mapping(score.row, part))}
    return {key: found for key, found in facts.items() if found is not None and found != ""}


def _leaves(found: Row) -> list[tuple[str, Any]]:
    """Mappings inside mappings as `outer.inner`."""
    pairs: list[tuple[str, Any]] = []
    for key, inner in found.items():
        pairs += [(f"{key}.{name}", leaf) for name, leaf in _leaves(inner)] if isinstance(inner, dict) else [(str(key), inner)]
    return pairs


def _cell(found: object) -> object:
    if number(found) is not None:
        return whole_number(found) if isinstance(found, int) else measured(found)
    if isinstance(found, str) and HASH.fullmatch(found):
        return value(found, f"{found[:12]}…")
    return "–" if found is None else str(found)

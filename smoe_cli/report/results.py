"""The section of evaluation results: every score with its counts, its interval and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_cli.report.load import Row, Run
from smoe_cli.report.lookup import listing, mapping
from smoe_cli.report.markup import Html, el, join, missing, table
from smoe_cli.report.stats import difference
from smoe_cli.report.verdict import Score, histories
from smoe_cli.report.words import count, digits, number, percent, points


def results(run: Run) -> Html:
    """One table for each task, by step; finer groups and the protocol fold out."""
    tasks = histories(run)
    if not tasks:
        return missing("eval/ holds no result yet.")
    return join(
        el("section", el("h3", name), _over_time(name, scores), _groups(name, scores), _protocol(scores))
        for name, scores in tasks.items()
    )


def counted(score: Score) -> str:
    """`153/200`, or an en dash."""
    return f"{count(score.correct)}/{count(score.total)}" if score.counted else "–"


def bar(score: Score) -> Html:
    """A score from 0 to 1 with its interval, drawn. Decoration: the numbers stand beside it."""
    if score.share is None:
        return Html("")
    x = 200 * min(max(score.share, 0.0), 1.0)
    low, high = (200 * edge for edge in score.interval) if score.interval else (x, x)
    return Html(
        '<svg class="bar" viewBox="0 0 200 10" width="200" height="10" aria-hidden="true">'
        '<path class="axis" d="M0 5H200M0 2V8M100 3V7M200 2V8"/>'
        f'<path class="range" d="M{low:.1f} 5H{high:.1f}"/><circle cx="{x:.1f}" cy="5" r="3.5"/></svg>'
    )


def _over_time(name: str, scores: Sequence[Score]) -> Html:
    if any(mapping(score.row, "bits_per_byte") for score in scores):
        return _bits(name, scores)
    rows: list[list[object]] = []
    before: Score | None = None
    exact = any(mapping(score.row, "exact") for score in scores)
    for score in scores:
        interval = f"{percent(score.interval[0])} to {percent(score.interval[1])}" if score.interval else "–"
        row: list[object] = [score.when, count(score.step), percent(score.share), counted(score), bar(score), interval]
        rows.append([*row, _change(before, score), *([_pair(mapping(score.row, "exact"))] if exact else [])])
        before = score
    head = ["measured", "step", "score", "correct", "0 to 100 %", "95 % interval", "change since the row above, in points"]
    return table(name, [*head, *(["exact answers"] if exact else [])], rows, numeric=(1, 2, 3, 5, 6, 7))


def _bits(name: str, scores: Sequence[Score]) -> Html:
    """Texts have no right answers: bits per byte, lower is better."""
    rows = []
    for score in scores:
        bits = mapping(score.row, "bits_per_byte")
        value, error = (digits(found) for found in (number(bits.get("value")), number(bits.get("standard_error"))))
        rows.append([score.when, count(score.step), value, error, count(bits.get("bytes")), count(bits.get("texts"))])
    head = ["measured", "step", "bits per byte (lower is better)", "standard error", "bytes", "texts"]
    return table(name, head, rows, numeric=(1, 2, 3, 4, 5))


def _change(before: Score | None, score: Score) -> str:
    if before is None or before.share is None or score.share is None:
        return "–"
    if obstacle := score.obstacle(before):
        return f"– ({obstacle})"
    if before.counted and score.counted:
        change, low, high = difference(before.counted, score.counted)
        return f"{points(change)} ({points(low)} to {points(high)})"
    return points(score.share - before.share)


def _groups(name: str, scores: Sequence[Score]) -> Html:
    parts = []
    for level, title in (("groups", "By group"), ("subgroups", "By subgroup")):
        names = list(dict.fromkeys(group for score in scores for group in mapping(score.row, level)))
        if len(names) < 2 or (level == "subgroups" and names == list(mapping(scores[-1].row, "groups"))):
            continue
        rows = [[group, *(_pair(mapping(score.row, level, group)) for score in scores)] for group in names]
        head = ["group", *(score.when for score in scores)]
        fold = el("summary", f"{title} ({len(names)})")
        parts.append(
            el("details", fold, table(f"{name} {title.lower()}", head, rows, range(1, len(head))), open=len(names) <= 8)
        )
    return join(parts)


def _pair(counts: Row) -> str:
    """{correct, total} as `77/100 (77.0 %)`."""
    correct, total = number(counts.get("correct")), number(counts.get("total"))
    if correct is None or not total:
        return "–"
    return f"{count(correct)}/{count(total)} ({percent(correct / total)})"


def _protocol(scores: Sequence[Score]) -> Html:
    """How it was measured. Keys whose value is the same in every result stand once."""
    columns = [_flat(score) for score in scores]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = []
    for key in keys:
        values = [column.get(key, "–") for column in columns]
        rows.append([key, *(values[:1] if len(set(values)) == 1 else [" → ".join(values)])])
    warnings = [str(warning) for score in scores for warning in listing(score.row, "warnings")]
    listed = el("ul", *(el("li", warning) for warning in dict.fromkeys(warnings)), class_="warnings") if warnings else ""
    fold = (
        el("details", el("summary", "How it was measured"), table("protocol", ["what", "value"], rows, csv=False))
        if rows
        else ""
    )
    return join([listed, fold])


def _flat(score: Score) -> dict[str, str]:
    row = {"file": score.row.get("file"), "time": score.row.get("time"), "seconds": score.row.get("seconds")}
    for part in ("protocol", "versions", "hashes"):
        row |= {f"{part}: {key}": value for key, value in mapping(score.row, part).items()}
    return {key: str(value) for key, value in row.items() if value not in (None, "")}

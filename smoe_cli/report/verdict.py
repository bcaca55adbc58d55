"""Did understanding survive? Scores over time, and the last one against the last one before drawing began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smoe_cli.report.load import Row, Run
from smoe_cli.report.lookup import get, mapping, mappings
from smoe_cli.report.stats import difference, wilson
from smoe_cli.report.words import number, whole

UNDERSTANDING = frozenset({"rendered-ocr", "ocrbench", "mmlu", "arc-easy"})
"""Tasks that measure understanding. Results of other tasks are shown, and not judged."""

Obstacle = Literal["other questions", "other protocol"]
ASKED: tuple[tuple[Obstacle, tuple[str, str]], ...] = (
    ("other questions", ("hashes", "data")),
    ("other questions", ("protocol", "limit")),
    ("other protocol", ("protocol", "shots")),
    ("other protocol", ("protocol", "prompt_sha256")),
)
"""Where two results differ that cannot be compared, and what that is called. A value that only one of them has differs."""


@dataclass(frozen=True)
class Score:
    """One result of one task."""

    when: str
    """What was measured: the phase at whose end it was, or the step."""
    step: int | None
    """None: measured after training, on the final model."""
    share: float | None
    correct: float | None
    total: float | None
    row: Row
    """The result as read."""

    @property
    def counted(self) -> tuple[float, float] | None:
        """(correct, total) where both are known and make sense."""
        if self.correct is None or not self.total or not 0 <= self.correct <= self.total:
            return None
        return self.correct, self.total

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the share."""
        return wilson(*self.counted) if self.counted else None

    def obstacle(self, before: Score) -> Obstacle | None:
        """Why there is no change from `before` to this score; None where they were measured alike."""
        if self.total is not None and before.total is not None and self.total != before.total:
            return "other questions"
        return next((name for name, path in ASKED if get(self.row, *path) != get(before.row, *path)), None)


@dataclass(frozen=True)
class Verdict:
    """What became of one task's score. `before` is None when there is nothing to compare with."""

    task: str
    before: Score | None
    after: Score
    change: tuple[float, float, float] | None
    """(difference, low, high) of the shares, where both are counted and were measured alike."""

    @property
    def obstacle(self) -> Obstacle | None:
        """Why the two were not compared, where they were not measured alike."""
        return self.after.obstacle(self.before) if self.before else None

    @property
    def word(self) -> Literal["rose", "fell", "kept", "nothing", "unknown"]:
        """`kept`: no difference that so many questions can show. `nothing`: there was no right answer to begin with."""
        if self.change is None:
            return "unknown"
        _, low, high = self.change
        if self.before and not self.before.correct and low <= 0:
            return "nothing"
        return "rose" if low > 0 else "fell" if high < 0 else "kept"


def histories(run: Run) -> dict[str, list[Score]]:
    """{task: its results by ascending step}. Results with different names of one task stay apart."""
    found: dict[str, list[Score]] = {}
    for row in run.evaluations:
        found.setdefault(title(row), []).append(_score(run, row))
    return found


def title(row: Row) -> str:
    """`task`, with the result's own name and its source where they say more."""
    parts = [str(row["task"])]
    for part in (row.get("name"), get(row, "protocol", "source")):
        if part and str(part) not in parts:
            parts.append(str(part))
    return " · ".join(parts)


def understanding(run: Run) -> list[Verdict]:
    """One verdict for each task that measures understanding."""
    start = drawing_start(run)
    verdicts = []
    for name, scores in histories(run).items():
        trained = [score for score in scores if score.step is not None]
        if str(scores[0].row["task"]) not in UNDERSTANDING:
            continue
        after = (trained or scores)[-1]
        earlier = [score for score in trained[:-1] if start is None or (score.step or 0) <= start]
        # One task may be measured in several ways at each step: like is compared with like where there is any.
        earlier = [score for score in earlier if not after.obstacle(score)] or earlier
        before = None if not earlier else earlier[0] if start is None else earlier[-1]
        counts = (before.counted, after.counted) if before and not after.obstacle(before) else (None, None)
        change = difference(counts[0], counts[1]) if counts[0] and counts[1] else None
        verdicts.append(Verdict(name, before, after, change))
    return verdicts


def others(run: Run) -> list[tuple[str, Score]]:
    """The last result of every task that does not measure understanding, where it has a score."""
    latest = [(name, scores[-1]) for name, scores in histories(run).items() if str(scores[0].row["task"]) not in UNDERSTANDING]
    return [(name, score) for name, score in latest if score.share is not None]


def drawing_sources(run: Run) -> list[str]:
    """Names of the sources that train drawing."""
    return [name for name, source in mapping(run.recipe, "data", "sources").items() if get(source, "task") == "t2i"]


def drawing_start(run: Run) -> int | None:
    """Step at which the first phase with a drawing source begins; None when no phase has one."""
    drawing = set(drawing_sources(run))
    for phase, span in zip(mappings(run.recipe, "phases"), run.phases, strict=False):
        if drawing & set(mapping(phase, "mixture")):
            return span.start
    return None


def _score(run: Run, row: Row) -> Score:
    step = whole(row.get("step"))
    phase = run.phase_name(row.get("phase"))
    correct, total = number(row.get("correct")), number(row.get("total"))
    share = number(row.get("score"))
    if share is None and correct is not None and total:
        share = correct / total
    when = phase or ("the final model" if step is None else f"step {step:,}")
    return Score(when=when, step=step, share=share, correct=correct, total=total, row=row)

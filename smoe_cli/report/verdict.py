"""Did understanding survive, did drawing emerge? The last result of each task, against the one that it has to be held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from smoe_cli.eval.compare.paired import Comparison
from smoe_cli.recipe.measures import DrawingTask
from smoe_cli.report.evaluations import Score, change, score, title
from smoe_cli.report.load import Run
from smoe_cli.report.lookup import get, mapping, mappings

DRAWING = frozenset(get_args(task.model_fields["task"].annotation)[0] for task in get_args(DrawingTask))
"""Tasks that measure drawing. All others measure understanding."""
LEVEL = 0.05
"""A change whose p value is not below is not called one."""


@dataclass(frozen=True)
class Verdict:
    """What became of one task's main metric."""

    task: str
    before: Score | None
    after: Score
    change: Comparison | None
    """Where both were measured alike."""
    lacks: str = ""
    """Why there is no `before`."""

    @property
    def obstacle(self) -> str | None:
        """Why the two were not compared, where they were not measured alike."""
        return self.after.obstacle(self.before) if self.before else None

    @property
    def word(self) -> Literal["rose", "fell", "kept", "nothing", "unknown"]:
        """`kept`: chance alone may have done it. `nothing`: there was no right answer to begin with. `rose`: for the better.

        Of paired answers both the interval and the test have to exclude chance: near the edge they may differ.
        """
        if self.before is None or self.change is None or self.change.interval is None:
            return "unknown"
        low, high = self.change.interval
        counted = self.before.main.count
        if counted and not counted.correct and low <= 0:
            return "nothing"
        if low <= 0 <= high or (self.change.p is not None and self.change.p >= LEVEL):
            return "kept"
        return "rose" if (low > 0) == (self.after.main.better == "higher") else "fell"


def histories(run: Run) -> dict[str, list[Score]]:
    """{task: its results by ascending step}. Results with different names of one task stay apart."""
    ends = {span.name: span.start + span.steps for span in run.phases}
    found: dict[str, list[Score]] = {}
    for row in run.evaluations:
        phase = run.phase_name(row.get("phase"))
        found.setdefault(title(row), []).append(score(row, phase, ends.get(phase)))
    return found


def understanding(run: Run) -> list[Verdict]:
    """One verdict for each task that measures understanding: the last result against the last one before drawing began.

    A result from before is never taken for one since. Those that count right answers come first.
    """
    start = drawing_start(run)
    verdicts = [_verdict(name, scores, start) for name, scores in histories(run).items() if not draws(scores[0])]
    return sorted(verdicts, key=lambda verdict: verdict.after.main.count is None)


def drawing(run: Run) -> list[Verdict]:
    """One verdict for each task that measures drawing: the last result against the first one."""
    verdicts = [_verdict(name, scores, None) for name, scores in histories(run).items() if draws(scores[0])]
    return sorted(verdicts, key=lambda verdict: verdict.after.main.count is None)


def _verdict(name: str, scores: list[Score], start: int | None) -> Verdict:
    """start: the step at which drawing began, or None where the first result is the yardstick. Of results since then the
    last one that was measured in training counts; one of the final model, measured later, where there is no such."""
    since = [score for score in scores if start is None or score.step is None or score.step > start]
    if not since:
        return Verdict(name, None, scores[-1], None, "Not measured since drawing began.")

    def before_drawing(after: Score) -> list[Score]:
        earlier = [score for score in scores[: scores.index(after)] if score.step is not None]
        return [score for score in earlier if start is None or (score.step or 0) <= start]

    measured = [score for score in since if score.step is not None] or since
    # A later result that was measured otherwise, of fewer questions perhaps, does not hide one that can be compared.
    alike = [after for after in measured if any(not after.obstacle(score) for score in before_drawing(after))]
    after = (alike or measured)[-1]
    earlier = before_drawing(after)
    # One task may be measured in several ways at each step: like is compared with like where there is any.
    earlier = [score for score in earlier if not after.obstacle(score)] or earlier
    if not earlier:
        when = "earlier result" if start is None else "result from before drawing began"
        return Verdict(name, None, after, None, f"There is no {when} to compare with.")
    before = earlier[0] if start is None else earlier[-1]
    return Verdict(name, before, after, None if after.obstacle(before) else change(before, after))


def draws(score: Score) -> bool:
    """Whether a result measures drawing."""
    return str(score.row["task"]) in DRAWING


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

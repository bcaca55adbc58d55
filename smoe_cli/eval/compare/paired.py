"""Two results that were measured alike: how far apart they are, and whether by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.compare.significance import (
    RESAMPLES,
    Z95,
    Difference,
    bootstrap_difference,
    mcnemar,
    paired_difference,
    unpaired_difference,
)
from smoe_cli.eval.predictions import Prediction, best, read_predictions
from smoe_cli.eval.results import Count, Metric

MCNEMAR = "paired: McNemar's exact test, Tango's score interval"
BOOTSTRAP = f"paired: percentile bootstrap, {RESAMPLES:,} resamples of the questions, seed 0"
NEWCOMBE = "unpaired: Newcombe's interval"
NORMAL = "unpaired: normal interval from the two standard errors"

SAME = ("question", "caption", "answer", "answers", "expected")
"""Facts of a prediction that say what was asked."""
LARGEST = 1e100
"""Numbers are smaller in size, so that their squares stay finite; NaN is not."""
SCORES = "log_likelihoods"
"""Fact of a multiple-choice question: of each of its choices."""


@dataclass(frozen=True)
class Alike:
    """How alike two models chose among the same choices: 0 apart if a conversion changed nothing."""

    same: int
    """Questions for which both chose the same."""
    total: int
    apart: float
    """Largest absolute difference of the log-likelihood of a choice."""


@dataclass(frozen=True)
class Comparison:
    """One metric of two models, the second against the first."""

    value: float
    """The second's less the first's."""
    method: str | None = None
    """What the interval comes from; None: there is none."""
    interval: tuple[float, float] | None = None
    """95 %."""
    p: float | None = None
    """Two-sided, not corrected for other comparisons."""
    discordant: tuple[int, int] | None = None
    """Questions that only the first, and that only the second answers right."""
    alike: Alike | None = None
    why: str | None = None
    """Why it is not paired, where it is not."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        low, high = self.interval or (None, None)
        b, c = self.discordant or (None, None)
        alike = self.alike and {"same": self.alike.same, "total": self.alike.total, "log_likelihoods_apart": self.alike.apart}
        tested = {"low": low, "high": high, "p": self.p, "method": self.method, "only_first": b, "only_second": c}
        return {"difference": self.value, **tested, "choices": alike, "not_paired": self.why}


class NotPaired(Exception):
    """Why two results cannot be compared question by question."""


def compare_unpaired(first: Metric, second: Metric, why: str) -> Comparison:
    """From counts or standard errors alone. why: they are not compared question by question."""
    value = second.value - first.value
    if first.count and second.count and first.count.total and second.count.total:
        pairs = [(float(one.correct), float(one.total)) for one in (first.count, second.count)]
        return _tested(unpaired_difference(*pairs), NEWCOMBE, why)
    if first.standard_error is None or second.standard_error is None:
        return Comparison(value, why=why)
    half = Z95 * math.hypot(first.standard_error, second.standard_error)
    return _tested(Difference(value, value - half, value + half), NORMAL, why)


def compare_paired(first: Sequence[Prediction], second: Sequence[Prediction]) -> Comparison:
    """From what was answered to the same questions. Raises NotPaired where they are not the same."""
    pairs = _pairs(first, second)
    total = len(pairs)
    if all(one.correct is not None and other.correct is not None for one, other in pairs):
        only_first = sum(bool(one.correct and not other.correct) for one, other in pairs)
        only_second = sum(bool(other.correct and not one.correct) for one, other in pairs)
        return replace(
            _tested(paired_difference(only_first, only_second, total), MCNEMAR),
            p=mcnemar(only_first, only_second),
            discordant=(only_first, only_second),
            alike=_alike(pairs),
        )
    if any(one.value is None or other.value is None for one, other in pairs):
        raise NotPaired("some questions are right or wrong, others have a value")
    if any(one.weight != other.weight or one.weight <= 0 for one, other in pairs):
        raise NotPaired("the same questions have other weights, or none")
    if total < 2:
        raise NotPaired("a single question cannot be resampled")
    before, after = ([one.value or 0.0 for one in side] for side in zip(*pairs, strict=True))
    difference, p = bootstrap_difference(before, after, [one.weight for one, _ in pairs])
    return replace(_tested(difference, BOOTSTRAP), p=p)


def predictions_of(row: dict[str, Any], file: Path, metric: str | None = None) -> list[Prediction]:
    """The predictions that a metric (None: the main one) of a result in `file` came from.

    Of other metrics whether an answer counts as right is a fact of its prediction, under the metric's name. Raises NotPaired
    when there are none or they do not add up to the metric, UserError when they are damaged.
    """
    name = row.get("predictions")
    if not (isinstance(name, str) and name):
        raise NotPaired(f"{file} names no predictions")
    path = file.parent / name
    if not path.exists():
        raise NotPaired(f"{path}: no such file")
    found = read_predictions(path).get(row["task"], [])
    if not found:
        raise NotPaired(f"{path}: no predictions of `{row['task']}`")
    metrics = metrics_of(row, str(file))
    main = next(iter(metrics))
    if metric not in (None, main):
        if not all(isinstance(one.facts.get(metric), bool) for one in found):
            raise NotPaired(f"{path}: holds what `{main}` counts, and not `{metric}`")
        found = [replace(one, correct=one.facts[metric], value=None) for one in found]
    if not _adds_up(found, metrics[metric or main]):
        raise NotPaired(f"{path}: does not add up to `{metric or main}` of {file}")
    return found


def _adds_up(predictions: Sequence[Prediction], metric: Metric) -> bool:
    if all(one.correct is not None for one in predictions):
        return metric.count == Count(sum(one.correct is True for one in predictions), len(predictions))
    if any(abs(number) >= LARGEST for one in predictions for number in (one.value or 0.0, one.weight)):
        return False
    weight = math.fsum(one.weight for one in predictions)
    value = math.fsum(one.value or 0.0 for one in predictions)
    return weight > 0 and math.isclose(value / weight, metric.value, rel_tol=1e-6)


def metrics_of(row: dict[str, Any], where: str) -> dict[str, Metric]:
    """A result's metrics, the main one first. Raises UserError naming the file when one is damaged."""
    found = {}
    for name, one in row["metrics"].items():
        numbers = [one["value"], *(one[key] for key in ("standard_error", "correct", "total") if one.get(key) is not None)]
        if not all(isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < LARGEST for x in numbers):
            raise UserError(f"{where}: `metrics.{name}` of {row['task']} is damaged: {one}", "measure again")
        counted = one.get("correct") is not None and one.get("total")
        count = Count(one["correct"], one["total"]) if counted else None
        if count and not 0 <= count.correct <= count.total:
            raise UserError(
                f"{where}: `metrics.{name}` of {row['task']}: {count.correct} right of {count.total}", "measure again"
            )
        found[name] = Metric(
            one["value"], one.get("standard_error"), "lower" if one.get("better") == "lower" else "higher", count
        )
    return found


def _tested(difference: Difference, method: str, why: str | None = None) -> Comparison:
    return Comparison(difference.value, method, (difference.low, difference.high), why=why)


def _pairs(first: Sequence[Prediction], second: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
    """By id, in the first's order."""
    by_id = [{one.id: one for one in side} for side in (first, second)]
    for side, known in zip((first, second), by_id, strict=True):
        if len(side) != len(known):
            raise NotPaired("several predictions have the same id")
    if only := len(by_id[0].keys() ^ by_id[1].keys()):
        raise NotPaired(f"{only} question(s) were asked of one model only")
    pairs = [(one, by_id[1][one.id]) for one in first]
    for fact in SAME:
        if any(one.facts.get(fact) != other.facts.get(fact) for one, other in pairs):
            raise NotPaired(f"`{fact}` differs between predictions of the same id")
    return pairs


def _alike(pairs: Sequence[tuple[Prediction, Prediction]]) -> Alike | None:
    """Of multiple choice: predictions with log-likelihoods."""
    scores: list[tuple[Any, Any]] = [(one.facts.get(SCORES), other.facts.get(SCORES)) for one, other in pairs]
    if not all(_numbers(a) and _numbers(b) and len(a) == len(b) for a, b in scores):
        return None
    apart = max((abs(x - y) for a, b in scores for x, y in zip(a, b, strict=True)), default=0.0)
    return Alike(sum(best(a) == best(b) for a, b in scores), len(pairs), apart)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, int | float) and abs(x) < LARGEST for x in value)

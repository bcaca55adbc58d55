"""What lm-evaluation-harness reports of a task or group, as what a `Result` is made of."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.results import Count, Metric

Sample = Mapping[str, Any]
"""A question and what was answered: `doc_id`, `arguments`, `filtered_resps`, `target`, and for each metric a score."""


@dataclass(frozen=True)
class Report:
    """One task or group of the object that `simple_evaluate` returns.

    A metric is called `<metric>,<filter>` there; the filter (`none`, `strict-match`, …) says how an answer was read.
    """

    whole: Mapping[str, Any]
    name: str

    def cut(self, leaves: Iterable[str]) -> bool:
        """Whether a limit left questions of any of these tasks out."""
        asked = [self.whole["n-samples"][leaf] for leaf in leaves]
        return any(one["effective"] < one["original"] for one in asked)

    def leaves(self, name: str | None = None) -> Iterator[str]:
        """The tasks that a group consists of, in order; a task itself."""
        name = name or self.name
        if name not in self.whole["group_subtasks"]:
            yield name
        for child in self.whole["group_subtasks"].get(name, ()):
            yield from self.leaves(child)

    def numbers(self) -> dict[str, float]:
        """Every number but standard errors: {`metric,filter`: value}. Empty of a group without a score of its own."""
        return {
            key: float(value)
            for key, value in self.whole["results"][self.name].items()
            if "," in key and "_stderr," not in key and _is_number(value)
        }

    def metrics(self) -> dict[str, Metric]:
        """{`metric,filter`: metric} of the finite numbers; with a count where it is the share of questions scored 1, not 0."""
        higher = self.whole["higher_is_better"].get(self.name) or {}
        found = {}
        for key, value in self.numbers().items():
            if math.isfinite(value):
                error = self.whole["results"][self.name].get("_stderr,".join(key.split(",")))
                found[key] = Metric(
                    value,
                    float(error) if _is_number(error) and math.isfinite(error) else None,
                    "lower" if higher.get(key.partition(",")[0]) is False else "higher",
                    self.count(key, value),
                )
        return found

    def samples(self, leaf: str, key: str) -> list[Sample]:
        """The questions of a task, in order, their answers read by the filter of `metric,filter`."""
        chosen = [one for one in self.whole["samples"][leaf] if one["filter"] == key.partition(",")[2]]
        return sorted(chosen, key=lambda one: one["doc_id"])

    def scores(self, key: str, leaves: Iterable[str] | None = None) -> list[Any]:
        """What each question of these tasks (all) scored."""
        own = self.leaves() if leaves is None else leaves
        return [sample.get(key.partition(",")[0]) for leaf in own for sample in self.samples(leaf, key)]

    def count(self, key: str, value: float) -> Count | None:
        """What `value` is the share of, if it is one."""
        count = _count(self.scores(key))
        return count if count and math.isclose(count.share, value, abs_tol=1e-9) else None

    def groups(self, key: str) -> tuple[dict[str, Count], dict[str, Count]]:
        """Counts of the group's own parts, and of its tasks where those are finer; under the names that the harness shows."""
        parts = self.whole["group_subtasks"].get(self.name, ())
        groups = {self.alias(part): _count(self.scores(key, self.leaves(part))) or Count() for part in parts}
        finer = {self.alias(leaf): _count(self.scores(key, [leaf])) or Count() for leaf in self.leaves()}
        return groups, finer if parts and finer != groups else {}

    def alias(self, name: str) -> str:
        """The name that the harness shows: `stem` of `mmlu_stem`."""
        return str(self.whole["results"][name]["alias"]).strip()

    def predictions(self, metrics: Mapping[str, Metric]) -> list[Prediction]:
        """What was answered to each question; none where the main metric is not the mean of what the questions scored.

        A fact that is called like a further metric tells whether that counts the answer as right.
        """
        (key, metric), *others = metrics.items()
        scores = self.scores(key)
        if not scores or not all(_is_number(score) for score in scores):
            return []
        if not math.isclose(sum(scores) / len(scores), metric.value, rel_tol=1e-6, abs_tol=1e-9):
            return []
        asked = [(leaf, sample) for leaf in self.leaves() for sample in self.samples(leaf, key)]
        shares = {
            name.removesuffix(",none"): self.scores(name)
            for name, other in others
            if other.count and other.count.total == len(asked)
        }
        return [
            Prediction(
                str(sample["doc_id"]) if leaf == self.name else f"{self.alias(leaf)}/{sample['doc_id']}",
                correct=bool(score) if metric.count else None,
                value=None if metric.count else float(score),
                facts={**_facts(sample), **{name: bool(own[index]) for name, own in shares.items()}},
            )
            for index, ((leaf, sample), score) in enumerate(zip(asked, scores, strict=True))
        ]

    def log_likelihoods(self, key: str) -> Iterator[float]:
        """Of every choice of every question."""
        for leaf in self.leaves():
            for sample in self.samples(leaf, key):
                yield from _facts(sample).get("log_likelihoods", ())

    def hash(self, column: str, key: str) -> str:
        """SHA-256 over a column of all questions, in order."""
        digest = hashlib.sha256()
        for leaf in self.leaves():
            for sample in self.samples(leaf, key):
                digest.update(json.dumps(sample[column], sort_keys=True, default=str).encode() + b"\n")
        return digest.hexdigest()


def _count(scores: Sequence[Any]) -> Count | None:
    shares = bool(scores) and all(_is_number(score) and score in (0, 1) for score in scores)
    return Count(int(sum(scores)), len(scores)) if shares else None


def _facts(sample: Sample) -> dict[str, Any]:
    """Log-likelihoods of choices, or the answer; and what the right one is."""
    answers, target = sample["filtered_resps"], sample["target"]
    right = target if isinstance(target, int | str) else str(target)
    if all(isinstance(one, Sequence) and len(one) == 2 and _is_number(one[0]) for one in answers):
        return {"log_likelihoods": [float(one[0]) for one in answers], "answer": right}
    return {"prediction": [str(one) for one in answers], "answer": right}


def _is_number(value: Any) -> bool:
    """Numpy's numbers, and truth values, are numbers."""
    return isinstance(value, int | float) or hasattr(value, "item")

"""What a model answered, question by question: kept in a file beside the result, so that two models can be compared on the same
questions and answers can be scored again without the model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.targets import writing
from smoe_cli.files import write_atomically

OWN = ("task", "id", "correct", "value", "weight")
"""Keys of a line that belong to `Prediction` itself; all others are facts."""


@dataclass(frozen=True)
class Prediction:
    """One question (text, picture, …) and what came of it: either `correct`, or `value`."""

    id: str
    """The same for every model that is asked the same question."""
    correct: bool | None = None
    """Of tasks whose score is a share of right answers."""
    value: float | None = None
    """Of tasks whose score is a mean: Σ value / Σ weight over all questions."""
    weight: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was asked and answered, as JSON: further keys of the line."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a line, less its task."""
        scored = {"correct": self.correct} if self.value is None else {"value": self.value, "weight": self.weight}
        return {"id": self.id, **scored, **self.facts}


def best(scores: Sequence[float]) -> int:
    """Index of the highest score; of equal ones the lowest index."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def chosen(id: str, log_likelihoods: Sequence[float], answer: int) -> Prediction:
    """A multiple-choice question. log_likelihoods: natural, summed over tokens; answer: index of the right choice."""
    choice = best(log_likelihoods)
    facts = {"log_likelihoods": list(log_likelihoods), "chosen": choice, "answer": answer}
    return Prediction(id, correct=choice == answer, facts=facts)


def is_predictions(text: str) -> bool:
    """Whether a file with this text may be one that `write_predictions` wrote, by its beginning."""
    return re.match(r'\{"task": "[^"]*", "id": "', text) is not None


def write_predictions(path: Path, answers: Mapping[str, Sequence[Prediction]]) -> None:
    """Write {task: predictions} as JSON lines: task, id, correct or value and weight, facts. Raises as `writing` does."""
    lines = (
        json.dumps({"task": task, **one.to_dict()}, ensure_ascii=False, allow_nan=False)
        for task, all_ in answers.items()
        for one in all_
    )
    with writing(path):
        write_atomically(path, "".join(f"{line}\n" for line in lines))


def read_predictions(path: Path) -> dict[str, list[Prediction]]:
    """What `write_predictions` wrote. Raises UserError naming the line that it did not write."""
    found: dict[str, list[Prediction]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # no `splitlines`: texts may hold U+2028
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "`smoe eval … --predictions FILE` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}", "copy it again, or measure again") from None
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        try:
            task, prediction = _parse(line)
            found.setdefault(task, []).append(prediction)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: not a line that `smoe eval --predictions` writes ({error})",
                "copy it again, or measure again",
            ) from None
    if not found:
        raise UserError(f"{path}: no predictions", "copy it again, or measure again")
    return found


def refuse_constant(name: str) -> float:
    """For `json.loads`: NaN and Infinity are no JSON, and never written. Raises ValueError."""
    raise ValueError(f"{name} is no number of JSON")


def _parse(line: str) -> tuple[str, Prediction]:
    value = json.loads(line, parse_constant=refuse_constant)
    facts = {key: value[key] for key in value if key not in OWN}
    if "value" in value:
        own, weight = float(value["value"]), float(value["weight"])
        if not (math.isfinite(own) and math.isfinite(weight)):
            raise ValueError(f"`value` is {own}, `weight` {weight}")
        return str(value["task"]), Prediction(str(value["id"]), value=own, weight=weight, facts=facts)
    if not isinstance(value["correct"], bool):
        raise ValueError(f"`correct` is {value['correct']!r}")
    return str(value["task"]), Prediction(str(value["id"]), correct=value["correct"], facts=facts)

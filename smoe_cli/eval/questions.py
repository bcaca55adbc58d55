"""What a model answered, question by question: kept in a file, so that two models can be compared on the same questions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.eval.targets import writing
from smoe_cli.files import write_atomically


@dataclass(frozen=True)
class Asked:
    """A multiple-choice question and the log-likelihood (natural, summed over tokens) of each of its choices."""

    id: str
    log_likelihoods: tuple[float, ...]
    chosen: int
    """Index of the choice with the highest one; of equal ones the first."""
    answer: int
    """Index of the right choice."""


@dataclass(frozen=True)
class Comparison:
    """One task's answers of two models."""

    task: str
    same: int
    """Questions for which both chose the same."""
    total: int
    difference: float
    """Largest absolute difference of the log-likelihood of a choice."""


def best(scores: Sequence[float]) -> int:
    """Index of the highest score; of equal ones the lowest index."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def is_questions(text: str) -> bool:
    """Whether a file with this text may be one that `write_questions` wrote, by its beginning."""
    return text.startswith('{"task": ')


def write_questions(path: Path, answers: Mapping[str, Sequence[Asked]]) -> None:
    """Write {task: answers} as JSON lines: task, id, log_likelihoods, chosen, answer. Raises as `writing` does."""
    lines = (json.dumps({"task": task, **asdict(asked)}) for task, all_ in answers.items() for asked in all_)
    with writing(path):
        write_atomically(path, "".join(f"{line}\n" for line in lines))


def read_questions(path: Path) -> dict[str, list[Asked]]:
    """What `write_questions` wrote. Raises UserError naming the line that it did not write."""
    found: dict[str, list[Asked]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "`smoe eval … --questions FILE` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            scores = tuple(float(score) for score in value["log_likelihoods"])
            asked = Asked(str(value["id"]), scores, int(value["chosen"]), int(value["answer"]))
            found.setdefault(str(value["task"]), []).append(asked)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: not a line that `smoe eval --questions` writes ({error})") from None
    if not found:
        raise UserError(f"{path}: no questions")
    return found


def compare(before: Mapping[str, Sequence[Asked]], after: Mapping[str, Sequence[Asked]], path: Path) -> list[Comparison]:
    """Compare answers on the tasks that both have. Raises UserError when they have none, or not the same questions.

    path: where `before` comes from, for messages.
    """
    shared = [task for task in after if task in before]
    if not shared:
        raise UserError(
            f"{path}: has answers of {', '.join(before)}, and this evaluation asks {', '.join(after) or 'no such task'}"
        )
    found = []
    for task in shared:
        old, new = before[task], after[task]
        if [(asked.id, asked.answer) for asked in old] != [(asked.id, asked.answer) for asked in new]:
            raise UserError(
                f"{path}: {len(old)} questions of `{task}`, which are not the {len(new)} of this evaluation",
                "measure both models on the same data, with the same --limit",
            )
        pairs = [pair for a, b in zip(old, new, strict=True) for pair in zip(a.log_likelihoods, b.log_likelihoods, strict=True)]
        found.append(
            Comparison(
                task,
                same=sum(a.chosen == b.chosen for a, b in zip(old, new, strict=True)),
                total=len(new),
                difference=max((abs(a - b) for a, b in pairs), default=0.0),
            )
        )
    return found

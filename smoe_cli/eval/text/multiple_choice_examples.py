"""Examples with their answers before a multiple-choice question: which ones, as lm-evaluation-harness 0.4.13 draws them.

Every question has its own, from the split `train`. `api/samplers.py` (`ContextSampler`) is their source.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.eval.tables import Row
from smoe_cli.eval.text.mmlu_layouts import split_files
from smoe_cli.eval.text.multiple_choice_data import Layout, Question, load_questions

SEED = 1234
SPLIT = "train"


def load_examples(
    path: Path, layout: Layout, parse: Callable[[Row], Question], shots: int, split: str | None
) -> tuple[Question, ...]:
    """The questions that `draw` draws from. split: that of the questions asked.

    Raises UserError on a file, on a folder without the split or with too few questions in it, and on bad rows.
    """
    if path.is_file():
        raise UserError(
            f"{path}: {shots} shot(s) are drawn from the split `{SPLIT}` of a folder, and this is a file",
            f"pass --shots 0, or a local copy of the hub's `{layout.hub}`",
        )
    folder = layout.folder(path)
    if not split_files(folder, SPLIT):
        raise UserError(
            f"{folder}: no `{SPLIT}` split, from which {shots} shot(s) are drawn",
            f"pass --shots 0, or a local copy of the hub's `{layout.hub}`, which has it",
        )
    found = load_questions(path, layout, parse, SPLIT).questions
    if len(found) < shots + spare(split):
        raise UserError(
            f"{folder}: split `{SPLIT}` has {len(found)} question(s), too few for {shots} shot(s)",
            f"pass --shots {max(0, len(found) - spare(split))}",
        )
    return found


def spare(split: str | None) -> int:
    """How many examples more than needed are drawn for a question, so that it can be left out itself.

    One, unless a split `test` is asked: the harness compares the name of the tested split with that of the examples, and both
    are none in a task like HellaSwag, which has no `test`.
    """
    return int(split != "test")


def draw(
    examples: Sequence[Question], questions: Sequence[Question], shots: int, split: str | None
) -> Iterator[tuple[Question, ...]]:
    """For each question, in order, its examples. One generator serves them all, so the first are the same under any limit."""
    rng = random.Random(SEED)
    more = spare(split)
    for question in questions:
        drawn = rng.sample(examples, shots + more) if shots else []
        yield tuple(one for one in drawn if not more or one != question)[:shots]

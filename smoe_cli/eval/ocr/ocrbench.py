"""OCRBench v1: the image, the bare question, a greedy answer; correct when the answer contains a right one.

Kits differ in the suffix of the question and in the size of the image, hence in the score: both are stored with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.data import OcrData
from smoe_cli.eval.ocr.scoring import TYPES, group_of, is_correct, is_exact, name_of, set_warnings
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.protocols import Answerer
from smoe_cli.eval.results import Count, Metric, Result
from smoe_cli.recipe.measures import OcrBench

SCORE = "any normalised answer is a substring of the normalised prediction"


@dataclass(frozen=True)
class Answered:
    """A question and what a model answered. Its fields are the columns of a file of predictions."""

    dataset: str
    question_type: str
    question: str
    answers: tuple[str, ...]
    prediction: str


def evaluate_ocr(
    model: Answerer,
    data: OcrData,
    task: str,
    how: OcrBench,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Ask the questions as `how` says and score the answers. `progress(done, total)` is called after each batch.

    Raises UserError, before anything is asked, naming file and row of an image that does not decode; and naming file and rows
    of a batch that the model refuses.
    """
    questions = data.questions[: how.limit]
    for question in questions:
        question.decode()  # takes little time; an image that fails after hours would take the answers before it along
    prompts = [question.question + how.suffix for question in questions]
    predictions: list[str] = []
    for start in range(0, len(questions), batch_size):
        batch = slice(start, start + batch_size)
        images = [question.decode() for question in questions[batch]]
        try:
            predictions += model.answer(images, prompts[batch], how.max_new_tokens)
        except UserError as error:  # of a plain model's processor, which knows no files
            first, last = questions[batch][0].row, questions[batch][-1].row
            raise UserError(f"{first.file}: rows {first.number} to {last.number}: {error.message}", error.help) from error
        if progress:
            progress(len(predictions), len(questions))
    answered = [
        Answered(question.dataset, question.question_type, question.question, question.answers, prediction)
        for question, prediction in zip(questions, predictions, strict=True)
    ]
    result = score(task, answered, how.fold_fullwidth)
    asked = {
        "prompt": "the image, then the question and the suffix",
        "prompt_sha256": hashlib.sha256("".join(f"{prompt}\0" for prompt in prompts).encode()).hexdigest(),
        "suffix": how.suffix,
        "shots": 0,
        "limit": how.limit,
        "decoding": "greedy",
        "max_new_tokens": how.max_new_tokens,
        "image": model.preprocessing,
    }
    left = len(data.questions) - len(questions)
    cut = (f"only the first {len(questions)} of the file's {len(data.questions)} questions",) if left else ()
    return dataclasses.replace(result, protocol={**asked, **result.protocol}, warnings=result.warnings + cut)


def score(task: str, answered: Sequence[Answered], fold_fullwidth: bool) -> Result:
    """Score answers, whoever gave them. The protocol is the rules' part of it."""
    groups: dict[str, Count] = dict.fromkeys((group for group, _ in TYPES.values()), Count())
    types: dict[str, Count] = dict.fromkeys(TYPES, Count())  # both in the benchmark's order, types of others behind
    exact = 0
    predictions = []
    ids = _ids(answered)
    for one, id in zip(answered, ids, strict=True):
        right = is_correct(one.prediction, one.answers, one.dataset, fold_fullwidth)
        whole = is_exact(one.prediction, one.answers, one.dataset, fold_fullwidth)
        exact += whole
        for counts, key in ((groups, group_of(one.question_type)), (types, one.question_type)):
            counts[key] = counts.get(key, Count()) + Count(int(right), 1)
        facts = dataclasses.asdict(one) | {"answers": list(one.answers), "exact": whole}
        predictions.append(Prediction(id, correct=right, facts=facts))
    kinds = [(one.dataset, one.question_type) for one in answered]
    return Result(
        task=task,
        name=name_of(kinds),
        metrics={
            "acc": Metric.share(sum(types.values(), Count())),
            "exact": Metric.share(Count(exact, len(answered))),
        },
        groups={name: count for name, count in groups.items() if count.total},
        subgroups={name: count for name, count in types.items() if count.total},
        predictions=tuple(predictions),
        protocol={
            "questions_sha256": hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest(),
            "fold_fullwidth": fold_fullwidth,
            "score": SCORE,
        },
        warnings=tuple(set_warnings(kinds)),
    )


def _ids(answered: Iterable[Answered]) -> list[str]:
    """Of each question: by what it asks and not by where it stands, so that files of different kits pair the same questions.

    Questions that differ in the image alone are told apart by their order.
    """
    seen: dict[str, int] = {}
    ids = []
    for one in answered:
        asked = json.dumps([one.dataset, one.question_type, one.question, *one.answers])
        digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(f"{digest}-{seen[digest]}")
    return ids

"""OCRBench v1: the image, the bare question, a greedy answer; correct when the answer contains a right one.

Kits differ in the suffix of the question and in the size of the image, hence in the score: both are stored with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from smoe_cli.eval.ocr.data import OcrData, OcrQuestion
from smoe_cli.eval.ocr.scoring import TYPES, group_of, is_correct, is_exact, name_of, set_warnings
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.protocols import Answerer
from smoe_cli.eval.provenance import effective
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

    Raises UserError, before anything is asked, naming file and row of an image that does not decode, or of a question that the
    model cannot be asked.
    """
    questions = data.questions[: how.limit]
    prompts = [question.question + how.suffix for question in questions]
    content = _checked(model, questions, prompts, how.max_new_tokens)
    predictions: list[str] = []
    for start in range(0, len(questions), batch_size):
        batch = slice(start, start + batch_size)
        images = [question.decode() for question in questions[batch]]
        predictions += model.answer(images, prompts[batch], how.max_new_tokens)
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
        "limit": effective(how.limit, len(data.questions)),
        "decoding": "greedy",
        "max_new_tokens": how.max_new_tokens,
        "image": model.preprocessing,
    }
    left = len(data.questions) - len(questions)
    cut = (f"only the first {len(questions)} of the file's {len(data.questions)} questions",) if left else ()
    return dataclasses.replace(
        result,
        protocol={**asked, **result.protocol},
        hashes={"data": {"sha256": content, "questions": len(questions)}},
        warnings=result.warnings + cut,
    )


def _checked(model: Answerer, questions: Sequence[OcrQuestion], prompts: Sequence[str], max_new_tokens: int) -> str:
    """SHA-256 of questions, answers and pixels, whether images are stored in the table or beside it, once all can be asked.

    This takes little time; a question that failed after hours would take the answers before it along.
    """
    digest = hashlib.sha256()
    for question, prompt in zip(questions, prompts, strict=True):
        image = question.decode()
        model.check(f"{question.row.file}: row {question.row.number}", image, prompt, max_new_tokens)
        digest.update(f"{_asked(question)}\0{image.size}\0".encode() + image.tobytes())
    return digest.hexdigest()


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
        digest = hashlib.sha256(_asked(one).encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(f"{digest}-{seen[digest]}")
    return ids


def _asked(one: Answered | OcrQuestion) -> str:
    return json.dumps([one.dataset, one.question_type, one.question, *one.answers])

"""OCRBench v1: bare question, greedy answer, correct when it contains a right one.

Kits differ in the suffix of the question and in the size of the image, hence in the score: both are stored with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from smoe_cli.eval.ocr_data import OcrData
from smoe_cli.eval.ocr_scoring import group_of, is_correct, is_exact
from smoe_cli.eval.protocols import Answerer
from smoe_cli.eval.results import Count, Result

MAX_NEW_TOKENS = 128


def evaluate_ocr(
    model: Answerer,
    data: OcrData,
    task: str,
    limit: int | None = None,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Ask the first `limit` questions (None: all) and score the answers. `progress(done, total)` is called after each batch."""
    questions = data.questions[:limit]
    predictions: list[str] = []
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        images = [question.decode() for question in batch]
        predictions += model.answer(images, [question.question for question in batch], MAX_NEW_TOKENS)
        if progress:
            progress(len(predictions), len(questions))
    warnings = data.warnings()
    if len(questions) < len(data.questions):
        warnings.append(f"only the first {len(questions)} of {len(data.questions)} questions")
    groups: dict[str, Count] = {}
    types: dict[str, Count] = {}
    exact = 0
    digest = hashlib.sha256()
    for question, prediction in zip(questions, predictions, strict=True):
        digest.update(question.question.encode() + b"\0")
        one = Count(int(is_correct(prediction, question.answers, question.dataset)), 1)
        exact += is_exact(prediction, question.answers, question.dataset)
        group = group_of(question.question_type)
        groups[group] = groups.get(group, Count()) + one
        types[question.question_type] = types.get(question.question_type, Count()) + one
    return Result(
        task=task,
        name=data.name,
        total=sum(types.values(), Count()),
        groups=groups,
        subgroups=types,
        exact=Count(exact, len(questions)),
        protocol=_protocol(digest.hexdigest(), limit),
        warnings=tuple(warnings),
    )


def _protocol(prompt_sha256: str, limit: int | None) -> dict[str, Any]:
    return {
        "prompt": "the bare question after the image",
        "prompt_sha256": prompt_sha256,
        "suffix": "",
        "shots": 0,
        "limit": limit,
        "decoding": "greedy",
        "max_new_tokens": MAX_NEW_TOKENS,
        "score": "any normalised answer is a substring of the normalised prediction (OCRBench's own rules)",
    }

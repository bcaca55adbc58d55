"""ARC-Easy with the prompt and the scoring of lm-evaluation-harness (task `arc_easy`, version 1.0; 0.4.13), 0 shots.

A model that cannot yet name a letter can still find one text likelier than another: the choices' own texts are scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from smoe_cli.eval.arc_data import ArcData, ArcQuestion
from smoe_cli.eval.mmlu import encode
from smoe_cli.eval.protocols import Scorer
from smoe_cli.eval.questions import Asked, best
from smoe_cli.eval.results import Count, Result

CHUNK = 64
"""Questions scored between two calls of `progress`."""


def arc_prompt(question: ArcQuestion) -> str:
    """The text before the answer. The continuations are a space and a choice's text."""
    return f"Question: {question.question}\nAnswer:"


def evaluate_arc(
    scorer: Scorer,
    tokenizer: Any,
    data: ArcData,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Accuracy (harness: `acc`), and with log-likelihoods divided by the choices' length in characters (`acc_norm`).

    `limit`: only the first questions. `progress(done, total)` is called now and then, with questions.
    """
    questions = data.questions[:limit]
    digest = hashlib.sha256()
    asked: list[Asked] = []
    normalised = 0
    for start in range(0, len(questions), CHUNK):
        chunk = questions[start : start + CHUNK]
        requests = []
        for question in chunk:
            context = arc_prompt(question)
            digest.update("\0".join([context, *question.choices, ""]).encode())
            requests += [encode(tokenizer, context, f" {choice}") for choice in question.choices]
        scores = iter(scorer.log_likelihoods(requests))
        for question in chunk:
            own = tuple(next(scores) for _ in question.choices)
            asked.append(Asked(question.id, own, best(own), question.answer))
            by_length = [score / len(choice) for score, choice in zip(own, question.choices, strict=True)]
            normalised += best(by_length) == question.answer
        if progress:
            progress(len(asked), len(questions))
    total = Count(sum(one.chosen == one.answer for one in asked), len(asked))
    return Result(
        task="arc-easy",
        name="arc-easy",
        total=total,
        groups={},
        subgroups={},
        normalised=Count(normalised, len(asked)),
        asked=tuple(asked),
        protocol={
            "prompt": "lm-evaluation-harness 0.4.13 `arc_easy`",
            "prompt_sha256": digest.hexdigest(),
            "shots": 0,
            "limit": limit,
            "score": "log-likelihood of the continuation, float32 log-softmax, ties to the first",
            "normalised": "divided by the choice's length in characters",
            "special_tokens": "the tokenizer's default",
            "truncation": "left",
        },
        warnings=(f"only the first {limit} question(s)",) if limit else (),
    )

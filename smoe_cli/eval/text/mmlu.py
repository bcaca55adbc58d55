"""MMLU with the prompt and the scoring of lm-evaluation-harness (task `mmlu`, version 2 of its group; 0.4.13).

The harness's default is 0 shots; published numbers have 5.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from typing import Any

from smoe_cli.eval.predictions import Prediction, chosen
from smoe_cli.eval.protocols import Request, Scorer
from smoe_cli.eval.provenance import effective, hash_asked
from smoe_cli.eval.results import Count, Metric, Result
from smoe_cli.eval.text.mmlu_data import LETTERS, MmluData, Question, Subject
from smoe_cli.eval.text.mmlu_subjects import CATEGORY, SUBJECTS

CONTINUATIONS = tuple(f" {letter}" for letter in LETTERS)


def prompt(subject: str, question: Question, shots: Sequence[Question]) -> str:
    """The text before the answer: header, `shots` with their answers, the question; ends with `Answer:`."""
    header = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
    examples = "".join(f"{_ask(shot)} {LETTERS[shot.answer]}\n\n" for shot in shots)
    return header + examples + _ask(question)


def _ask(question: Question) -> str:
    """The question is stripped, the choices are not: the harness's template does so."""
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return f"{question.question.strip()}\n{choices}\nAnswer:"


def encode(tokenizer: Any, context: str, continuation: str) -> Request:
    """Token ids of the context, and of context and continuation encoded together less as many ids as the context has.

    Special tokens are those that the tokenizer adds by default. The context must not end with white space.
    """
    return encode_all(tokenizer, context, [continuation])[0]


def encode_all(tokenizer: Any, context: str, continuations: Sequence[str]) -> list[Request]:
    """Like `encode`, for several continuations of one context."""
    ids = tokenizer.encode(context)
    return [(ids, tokenizer.encode(context + continuation)[len(ids) :]) for continuation in continuations]


def pooled_standard_error(counts: Iterable[Count]) -> float | None:
    """Standard error of the share of right answers over several subjects, as lm-evaluation-harness pools it.

    √(Σ (nᵢ − 1)·nᵢ·seᵢ² / (N − k) / N) with N = Σ nᵢ over k subjects (`pooled_sample_stderr`). None where a subject has fewer
    than two questions.
    """
    own = [(count.total, count.standard_error) for count in counts]
    total = sum(n for n, _ in own)
    squares = [(n - 1) * n * error**2 for n, error in own if error is not None]
    return math.sqrt(sum(squares) / (total - len(own)) / total) if own and len(squares) == len(own) else None


def evaluate_mmlu(
    scorer: Scorer,
    tokenizer: Any,
    data: MmluData,
    shots: int = 5,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Accuracy over all questions (correct / total), by category and by subject; standard errors are pooled over subjects.

    `limit`: only the first questions of each subject. `progress(done, total)` is called after each batch, with questions.
    """
    subjects: dict[str, Count] = {}
    digest = hashlib.sha256()
    predictions: list[Prediction] = []
    questions = sum(len(subject.test[:limit]) for subject in data.subjects)

    def tell(requests: int) -> None:
        """Called with those of the subject that is being asked."""
        if progress:
            progress(len(predictions) + requests // len(CONTINUATIONS), questions)

    for subject in data.subjects:
        answers = _score_subject(scorer, tokenizer, subject, shots, limit, digest, tell)
        count = Count(sum(one.correct is True for one in answers), len(answers))
        predictions += answers
        subjects[subject.name] = count
    members: dict[str, list[Count]] = {}
    for name, count in subjects.items():
        members.setdefault(CATEGORY[name], []).append(count)
    groups = dict(sorted(members.items()))
    total = sum(subjects.values(), Count())
    warnings = []
    if len(subjects) < len(SUBJECTS):
        warnings.append(f"{len(subjects)} of MMLU's {len(SUBJECTS)} subjects")
    if limit := effective(limit, max(len(subject.test) for subject in data.subjects)):
        warnings.append(f"only the first {limit} question(s) of each subject")
    return Result(
        task="mmlu",
        name="mmlu",
        metrics={"acc": Metric(total.share, pooled_standard_error(subjects.values()), "higher", total)},
        groups={name: sum(counts, Count()) for name, counts in groups.items()},
        subgroups=subjects,
        details={"standard_errors": {name: pooled_standard_error(counts) for name, counts in groups.items()}},
        protocol={
            "prompt": "lm-evaluation-harness 0.4.13 `mmlu`",
            "prompt_sha256": digest.hexdigest(),
            "shots": shots,
            "limit": limit,
            "continuations": list(CONTINUATIONS),
            "score": "log-likelihood of the continuation, float32 log-softmax, ties to the first",
            "special_tokens": "the tokenizer's default",
            "truncation": "left",
        },
        hashes={"data": hash_asked((subject.name, *astuple(one)) for subject in data.subjects for one in subject.test[:limit])},
        warnings=tuple(warnings),
        predictions=tuple(predictions),
    )


def _score_subject(
    scorer: Scorer,
    tokenizer: Any,
    subject: Subject,
    shots: int,
    limit: int | None,
    digest: Any,
    tell: Callable[[int], None],
) -> list[Prediction]:
    """The answers; feeds the prompts into `digest`."""
    requests = []
    questions = subject.test[:limit]
    for question in questions:
        context = prompt(subject.name, question, subject.dev[:shots])
        digest.update(context.encode() + b"\0")
        requests += encode_all(tokenizer, context, CONTINUATIONS)
    scores = scorer.log_likelihoods(requests, tell)
    choices = len(CONTINUATIONS)
    answers = []
    for index, question in enumerate(questions):
        own = tuple(scores[index * choices : (index + 1) * choices])
        answers.append(chosen(f"{subject.name}/{index}", own, question.answer))
    return answers

"""MMLU with the prompt and the scoring of lm-evaluation-harness (task `mmlu`, version 2 of its group; 0.4.13).

The harness's default is 0 shots; published numbers have 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from smoe_cli.eval.mmlu_data import LETTERS, MmluData, Question, Subject
from smoe_cli.eval.mmlu_subjects import CATEGORY, SUBJECTS
from smoe_cli.eval.protocols import Request, Scorer
from smoe_cli.eval.questions import Asked, best
from smoe_cli.eval.results import Count, Result

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
    context_ids = tokenizer.encode(context)
    return context_ids, tokenizer.encode(context + continuation)[len(context_ids) :]


def evaluate_mmlu(
    scorer: Scorer,
    tokenizer: Any,
    data: MmluData,
    shots: int = 5,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Accuracy over all questions (correct / total), by category and by subject.

    `limit`: only the first questions of each subject. `progress(done, total)` is called after each subject, with questions.
    """
    groups: dict[str, Count] = {}
    subjects: dict[str, Count] = {}
    digest = hashlib.sha256()
    asked: list[Asked] = []
    questions = sum(len(subject.test[:limit]) for subject in data.subjects)
    done = 0
    for subject in data.subjects:
        answers = _score_subject(scorer, tokenizer, subject, shots, limit, digest)
        count = Count(sum(one.chosen == one.answer for one in answers), len(answers))
        asked += answers
        category = CATEGORY[subject.name]
        groups[category] = groups.get(category, Count()) + count
        subjects[subject.name] = count
        done += count.total
        if progress:
            progress(done, questions)
    warnings = []
    if len(subjects) < len(SUBJECTS):
        warnings.append(f"{len(subjects)} of MMLU's {len(SUBJECTS)} subjects")
    if limit:
        warnings.append(f"only the first {limit} question(s) of each subject")
    return Result(
        task="mmlu",
        name="mmlu",
        total=sum(subjects.values(), Count()),
        groups=dict(sorted(groups.items())),
        subgroups=subjects,
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
        warnings=tuple(warnings),
        asked=tuple(asked),
    )


def _score_subject(scorer: Scorer, tokenizer: Any, subject: Subject, shots: int, limit: int | None, digest: Any) -> list[Asked]:
    """The answers; feeds the prompts into `digest`."""
    requests = []
    questions = subject.test[:limit]
    for question in questions:
        context = prompt(subject.name, question, subject.dev[:shots])
        digest.update(context.encode() + b"\0")
        requests += [encode(tokenizer, context, continuation) for continuation in CONTINUATIONS]
    scores = scorer.log_likelihoods(requests)
    choices = len(CONTINUATIONS)
    answers = []
    for index, question in enumerate(questions):
        own = tuple(scores[index * choices : (index + 1) * choices])
        answers.append(Asked(f"{subject.name}/{index}", own, best(own), question.answer))
    return answers

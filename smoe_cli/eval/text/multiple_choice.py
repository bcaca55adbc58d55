"""Multiple choice by the likelihood of each choice's own text, as lm-evaluation-harness 0.4.13 measures it.

A model that cannot yet name a letter can still find one text likelier than another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from smoe_cli.eval.predictions import Prediction, best
from smoe_cli.eval.protocols import Request, Scorer
from smoe_cli.eval.provenance import effective, hash_asked
from smoe_cli.eval.results import Count, Metric, Result
from smoe_cli.eval.tables import Row
from smoe_cli.eval.text.mmlu import encode
from smoe_cli.eval.text.multiple_choice_data import (
    Layout,
    Question,
    Questions,
    load_questions,
    parse_arc,
    parse_hellaswag,
    parse_own,
)
from smoe_cli.eval.text.multiple_choice_examples import SEED, SPLIT, draw, load_examples
from smoe_cli.eval.text.packages import data_folder
from smoe_cli.recipe.measures import ArcChallenge, ArcEasy, ChoiceTask, HellaSwag, MultipleChoice

CHUNK = 64
"""Questions without examples scored between two calls of `progress`."""


@dataclass(frozen=True)
class Benchmark:
    """What sets one benchmark apart from another."""

    parse: Callable[[Row], Question]
    prompt: str
    """The text before the answer, with `{question}`. The continuations are a space and a choice's text."""
    source: str
    """Whose prompt it is."""
    layout: Layout | None = None
    """None: a file."""


ARC_PROMPT = "Question: {question}\nAnswer:"
ARC_SPLITS = ("test", "validation")
BENCHMARKS: dict[type, Benchmark] = {
    ArcEasy: Benchmark(
        parse_arc,
        ARC_PROMPT,
        "lm-evaluation-harness 0.4.13 `arc_easy`",
        Layout("allenai/ai2_arc", ("ARC-Easy", "ai2_arc/ARC-Easy"), ARC_SPLITS),
    ),
    ArcChallenge: Benchmark(
        parse_arc,
        ARC_PROMPT,
        "lm-evaluation-harness 0.4.13 `arc_challenge`",
        Layout("allenai/ai2_arc", ("ARC-Challenge", "ai2_arc/ARC-Challenge"), ARC_SPLITS),
    ),
    HellaSwag: Benchmark(
        parse_hellaswag,
        "{question}",
        "lm-evaluation-harness 0.4.13 `hellaswag`",
        Layout("Rowan/hellaswag", ("data", "hellaswag/none", "none"), ("validation",)),
    ),
    MultipleChoice: Benchmark(parse_own, ARC_PROMPT, "the recipe's or the task's own"),
}
"""Task → the benchmark: a further one is its words in `recipe.measures` and an entry here."""


def load_choices(task: ChoiceTask) -> Questions:
    """The questions of a task, and what its examples are drawn from. Raises UserError as `load_questions` and
    `load_examples` do."""
    benchmark = BENCHMARKS[type(task)]
    path = data_folder(task.data, "") if benchmark.layout else Path(task.data).expanduser()
    split = None if isinstance(task, MultipleChoice) else task.split
    found = load_questions(path, benchmark.layout, benchmark.parse, split)
    if benchmark.layout and (shots := shots_of(task)):
        found = replace(found, examples=load_examples(path, benchmark.layout, benchmark.parse, shots, found.split))
    return found


def shots_of(task: ChoiceTask) -> int:
    """Examples before each question."""
    return 0 if isinstance(task, MultipleChoice) else task.shots


def prompt_of(task: ChoiceTask) -> str:
    """The task's prompt, with `{question}`."""
    own = task.prompt if isinstance(task, MultipleChoice) else None
    return own or BENCHMARKS[type(task)].prompt


def pair(prompt: str, question: Question, choice: str, examples: Sequence[Question] = ()) -> tuple[str, str]:
    """Context and continuation. White space at the end of the context goes to the continuation, as the harness has it, so that
    a token may begin with it."""
    answered = (f"{prompt.replace('{question}', one.text)} {one.choices[one.answer]}\n\n" for one in examples)
    context = "".join(answered) + prompt.replace("{question}", question.text)
    bare = context.rstrip()
    return bare, f"{context[len(bare) :]} {choice}"


def evaluate_choices(
    scorer: Scorer,
    tokenizer: Any,
    task: ChoiceTask,
    data: Questions,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Accuracy (harness: `acc`), and with log-likelihoods divided by the choices' length in characters (`acc_norm`).

    `progress(done, total)` is called now and then, with questions.
    """
    prompt, questions = prompt_of(task), data.questions[: task.limit]
    shots = shots_of(task)
    examples = draw(data.examples, questions, shots, data.split)
    digest = hashlib.sha256()
    predictions: list[Prediction] = []
    size = 1 if shots else CHUNK  # what all requests of a call begin with is read once: the examples are the question's own
    for start in range(0, len(questions), size):
        chunk = questions[start : start + size]
        requests: list[Request] = []
        for question in chunk:
            before = next(examples)
            pairs = [pair(prompt, question, choice, before) for choice in question.choices]
            digest.update("".join(f"{text}\0" for one in pairs for text in one).encode())
            requests += [encode(tokenizer, *one) for one in pairs]
        scores = iter(scorer.log_likelihoods(requests))
        predictions += [_judge(question, [next(scores) for _ in question.choices]) for question in chunk]
        if progress:
            progress(len(predictions), len(questions))
    right = sum(one.correct is True for one in predictions)
    normalised = sum(one.facts["acc_norm"] for one in predictions)
    return Result(
        task=task.task,
        name=Path(task.data).stem if isinstance(task, MultipleChoice) else task.task,
        metrics={
            "acc": Metric.share(Count(right, len(questions))),
            "acc_norm": Metric.share(Count(normalised, len(questions))),
        },
        predictions=tuple(predictions),
        protocol={
            "prompt": prompt,
            "prompt_source": BENCHMARKS[type(task)].source,
            "prompt_sha256": digest.hexdigest(),
            "shots": shots,
            **({"examples": f"split `{SPLIT}`", "seed": SEED} if shots else {}),
            "limit": effective(task.limit, len(data.questions)),
            "score": "log-likelihood of the continuation, float32 log-softmax, ties to the first",
            "normalised": "divided by the choice's length in characters",
            "special_tokens": "the tokenizer's default",
            "truncation": "left",
        },
        details={"split": data.split},
        hashes={"data": hash_asked(map(astuple, questions))},
        warnings=tuple(_warnings(task, data)),
    )


def _judge(question: Question, scores: Sequence[float]) -> Prediction:
    """scores: log-likelihoods, natural, summed over tokens. The harness divides them by Python's `len` of the choice.

    The fact `acc_norm` is called like its metric, so that two models are compared by it too.
    """
    by_length = [score / len(choice) for score, choice in zip(scores, question.choices, strict=True)]
    facts = {
        "log_likelihoods": list(scores),
        "chosen": best(scores),
        "chosen_normalised": best(by_length),
        "acc_norm": best(by_length) == question.answer,
        "answer": question.answer,
    }
    return Prediction(question.id, correct=best(scores) == question.answer, facts=facts)


def _warnings(task: ChoiceTask, data: Questions) -> list[str]:
    layout, found = BENCHMARKS[type(task)].layout, []
    if layout and data.split not in (None, layout.splits[0]):
        found.append(f"split `{data.split}`; published numbers are of `{layout.splits[0]}`")
    if limit := effective(task.limit, len(data.questions)):
        found.append(f"only the first {limit} question(s)")
    return found

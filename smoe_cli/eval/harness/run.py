"""Any task of lm-evaluation-harness, asked and scored by the harness itself: `smoe eval MODEL --engine lm-eval`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.harness.noise import quiet
from smoe_cli.eval.harness.report import Report
from smoe_cli.eval.harness.tasks import SEED, seed
from smoe_cli.eval.limits import positions
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.provenance import hash_weights, versions
from smoe_cli.eval.results import Result
from smoe_cli.eval.run import evaluating, signed
from smoe_cli.eval.text.likelihood import NOT_FINITE
from smoe_cli.eval.text.mmlu_subjects import SUBJECTS

BOOTSTRAP = 1000
"""Resamples for the standard error of metrics that have no formula for it."""


def run_harness(
    opened: OpenModel,
    tasks: Mapping[str, Any],
    shots: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    done: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Measure a model on tasks of the harness: one result for a task or group; for a tag, or a group without a score,
    one for each of its tasks.

    tasks: see `harness_tasks`. shots: None leaves it to the task; a task that sets 0 keeps it. limit: first questions of each
    task. done: called with each result. Raises UserError on a task that cannot be asked of a model that reads texts.
    """
    results: list[Result] = []
    weights = hash_weights(opened.model)
    with evaluating(opened.model), quiet() as warnings:
        for name, loaded in tasks.items():
            start = time.monotonic()
            warnings.clear()
            whole = ask_harness(opened, name, loaded, shots, limit, batch_size)
            scored = name in whole["results"] and Report(whole, name).numbers()
            for part in [name] if scored else whole["samples"]:
                found = signed(_result(Report(whole, part), shots, limit), opened, weights, batch_size, start)
                results.append(
                    replace(
                        found,
                        circumstances={**found.circumstances, "max_length": positions(opened.causal_lm, opened.tokenizer)},
                        warnings=(*found.warnings, *warnings),
                    )
                )
                if done:
                    done(results[-1])
    return results


def ask_harness(opened: OpenModel, name: str, loaded: Any, shots: int | None, limit: int | None, batch_size: int) -> Any:
    """The object that the harness's `evaluate` returns. loaded: of `harness_tasks`."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    for task in loaded["tasks"].values():  # as its `simple_evaluate` does, which also looks for git and lists what is installed
        own = task.get_config("num_fewshot")
        if own is None or (own > 0 and shots is not None):
            task.set_config(key="num_fewshot", value=shots or 0)
        task.set_fewshot_seed(seed=SEED)
    seed()
    try:
        model = HFLM(
            pretrained=opened.causal_lm,
            tokenizer=opened.tokenizer,
            backend="causal",
            batch_size=batch_size,
            softmax_dtype="float32",
        )
        return evaluate(lm=model, task_dict=loaded, limit=limit, bootstrap_iters=BOOTSTRAP, log_samples=True)
    except ValueError as error:  # a task that shows images, or that would run code which the model wrote
        raise UserError(f"task `{name}` of lm-evaluation-harness: {error}") from error


def _result(report: Report, shots: int | None, limit: int | None) -> Result:
    """What the report says, less what is the same for every task.

    Raises UserError when it holds no number, Failure when the model gave some that are not finite.
    """
    metrics = report.metrics()
    if not metrics:
        raise UserError(f"task `{report.name}` of lm-evaluation-harness reports no finite number")
    key, main = next(iter(metrics.items()))
    if not all(map(math.isfinite, report.log_likelihoods(key))):
        raise Failure(*NOT_FINITE)
    groups, subgroups = report.groups(key) if main.count else ({}, {})
    leaves = list(report.leaves())
    had = {leaf: report.whole["n-shot"][leaf] for leaf in leaves}
    task_version = str(report.whole["versions"][report.name])
    return Result(
        task=report.name,
        name=report.name,
        metrics={name.removesuffix(",none"): metric for name, metric in metrics.items()},
        version=int(float(task_version)) if task_version.replace(".", "", 1).isdecimal() else 1,
        groups=groups,
        subgroups=subgroups,
        protocol={
            "engine": "lm-eval",
            "prompt": f"lm-evaluation-harness {version('lm_eval')} `{report.name}`, version {task_version}",
            "prompt_sha256": report.hash("arguments", key),
            "shots": had if len(set(had.values())) > 1 else had[leaves[0]],
            "limit": limit if report.cut(leaves) else None,
            "seed": SEED,
            "score": "float32 log-softmax",
            "special_tokens": "the tokenizer's default",
            "truncation": "left",
        },
        versions=versions("lm_eval", "datasets"),
        hashes={"data": {"sha256": report.hash("doc_hash", key), "questions": len(report.scores(key))}},
        warnings=tuple(_warnings(report, had, shots, limit)),
        predictions=tuple(report.predictions(metrics)),
    )


def _warnings(report: Report, had: Mapping[str, int], shots: int | None, limit: int | None) -> list[str]:
    found = [f"`{name}` is {value}" for name, value in report.numbers().items() if not math.isfinite(value)]
    if report.name == "mmlu" and len(had) < len(SUBJECTS):
        found.append(f"{len(had)} of MMLU's {len(SUBJECTS)} subjects")
    if report.cut(had):
        found.append(f"only the first {limit} question(s) of each task")
    if other := [name for name, number in had.items() if shots not in (None, number)]:
        found.append(f"{had[other[0]]} shots, not {shots}: `{other[0]}` sets them itself")
    return found

"""Tasks that score texts: they need a causal language model, ours or a plain one, and measure both by the same code."""

from __future__ import annotations

import dataclasses

from smoe_cli.errors import UserError
from smoe_cli.eval.models import Asking
from smoe_cli.eval.provenance import hash_files
from smoe_cli.eval.results import Result
from smoe_cli.eval.text.bits import evaluate_bits
from smoe_cli.eval.text.bits_data import load_texts
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import evaluate_mmlu
from smoe_cli.eval.text.mmlu_data import load_mmlu
from smoe_cli.eval.text.multiple_choice import evaluate_choices, load_choices
from smoe_cli.recipe.measures import BitsPerByte, ChoiceTask, Mmlu

TextTask = Mmlu | ChoiceTask | BitsPerByte

WINDOW = 1024
"""Tokens of `bits-per-byte` that a plain model predicts in one go, where it has as many positions."""


def run_text(asking: Asking, task: TextTask) -> Result:
    """Measure a model, ours or plain, on one task. Raises UserError on bad data."""
    score = asking.opened.scorer(asking.batch_size)
    if isinstance(task, BitsPerByte):
        return _bits(asking, task, score)
    tokenizer = asking.opened.tokenizer
    if isinstance(task, Mmlu):
        mmlu = load_mmlu(task.data, task.shots)
        files, root = mmlu.files, mmlu.root
        result = evaluate_mmlu(score, tokenizer, mmlu, task.shots, task.limit, asking.tell)
    else:
        data, root = load_choices(task)
        files = data.files
        result = evaluate_choices(score, tokenizer, task, data, asking.tell)
    return dataclasses.replace(
        result,
        protocol={**result.protocol, "truncated": score.truncated},
        circumstances={"max_length": score.max_length, "prefix_cache": score.share_prefix},
        warnings=(*result.warnings, *_cut(score)),
        hashes={"data": hash_files(files, root if root.is_dir() else root.parent)},
    )


def _bits(asking: Asking, task: BitsPerByte, score: BatchedScorer) -> Result:
    recipe = asking.opened.recipe
    found = load_texts(task, recipe.data.sources if recipe else {})
    window = task.window or min(recipe.data.sequence_length if recipe else WINDOW, score.max_length)
    if window > score.max_length:
        raise UserError(
            f"bits-per-byte: a window of {window} tokens, the model has {score.max_length} positions", "lower `window`"
        )
    result = evaluate_bits(score, asking.opened.tokenizer, found.texts[: task.limit], window, asking.tell)
    asked = {"source": task.source, "column": task.column if task.data else None, "limit": task.limit}
    return dataclasses.replace(
        result,
        protocol={**result.protocol, **asked},
        circumstances={"max_length": score.max_length},
        hashes={"data": found.hash},
        warnings=(f"only the first {task.limit} text(s)",) if task.limit and task.limit < len(found.texts) else (),
    )


def _cut(score: BatchedScorer) -> list[str]:
    if not score.truncated:
        return []
    return [f"{score.truncated} request(s) lost tokens on the left: longer than the model's {score.max_length} positions"]

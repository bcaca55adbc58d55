"""Tasks that score texts: they need a causal language model, ours or a plain one, and measure both by the same code."""

from __future__ import annotations

import dataclasses

from smoe_cli.errors import UserError
from smoe_cli.eval.models import Asking
from smoe_cli.eval.provenance import effective, hash_asked
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
    scorer = asking.opened.scorer(asking.batch_size)
    if isinstance(task, BitsPerByte):
        return _bits(asking, task, scorer)
    tokenizer = asking.opened.tokenizer
    if isinstance(task, Mmlu):
        result = evaluate_mmlu(scorer, tokenizer, load_mmlu(task.data, task.shots), task.shots, task.limit, asking.tell)
    else:
        result = evaluate_choices(scorer, tokenizer, task, load_choices(task), asking.tell)
    return dataclasses.replace(
        result,
        circumstances={"max_length": scorer.max_length, "truncated": scorer.truncated, "prefix_cache": scorer.share_prefix},
        warnings=(*result.warnings, *_cut(scorer)),
    )


def _bits(asking: Asking, task: BitsPerByte, scorer: BatchedScorer) -> Result:
    recipe = asking.opened.recipe
    found = load_texts(task, recipe.data.sources if recipe else {})
    window = task.window or min(recipe.data.sequence_length if recipe else WINDOW, scorer.max_length)
    if window > scorer.max_length:
        raise UserError(
            f"bits-per-byte: a window of {window} tokens, the model has {scorer.max_length} positions", "lower `window`"
        )
    result = evaluate_bits(scorer, asking.opened.tokenizer, found[: task.limit], window, asking.tell)
    limit = effective(task.limit, len(found))
    asked = {"source": task.source, "column": task.column if task.data else None, "limit": limit}
    return dataclasses.replace(
        result,
        protocol={**result.protocol, **asked},
        circumstances={"max_length": scorer.max_length},
        hashes={"data": hash_asked(found[:limit])},
        warnings=(f"only the first {limit} text(s)",) if limit else (),
    )


def _cut(scorer: BatchedScorer) -> list[str]:
    if not scorer.truncated:
        return []
    return [f"{scorer.truncated} request(s) lost tokens on the left: longer than the model's {scorer.max_length} positions"]

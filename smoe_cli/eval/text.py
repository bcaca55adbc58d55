"""Tasks that score texts: they need a causal language model, ours or a plain one, and measure both by the same code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.arc import evaluate_arc
from smoe_cli.eval.arc_data import load_arc
from smoe_cli.eval.bits import evaluate_bits
from smoe_cli.eval.bits_data import load_texts
from smoe_cli.eval.likelihood import BatchedScorer
from smoe_cli.eval.mmlu import evaluate_mmlu
from smoe_cli.eval.mmlu_data import load_mmlu
from smoe_cli.eval.provenance import hash_files
from smoe_cli.eval.results import Result
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.measures import ArcEasy, BitsPerByte, Mmlu

TextTask = Mmlu | ArcEasy | BitsPerByte

WINDOW = 1024
"""Tokens of `bits-per-byte` that a plain model predicts in one go, where it has as many positions."""


def scorer(model: Any, batch_size: int) -> BatchedScorer:
    """A transformers causal language model as a `Scorer`; of one of ours its backbone, for which every token is text."""
    causal_lm = model.backbone if isinstance(model, SymbioticModel) else model
    return BatchedScorer(causal_lm, causal_lm.config.get_text_config().max_position_embeddings, batch_size)


def run_text(
    model: Any, tokenizer: Any, task: TextTask, batch_size: int, tell: Callable[[int, int], None] | None = None
) -> Result:
    """Measure a model, ours or plain, on one task. Raises UserError on bad data."""
    score = scorer(model, batch_size)
    if isinstance(task, BitsPerByte):
        return _bits(model, tokenizer, task, score, tell)
    root = Path(task.data)
    if isinstance(task, Mmlu):
        mmlu = load_mmlu(root, task.shots)
        files = mmlu.files
        result = evaluate_mmlu(score, tokenizer, mmlu, task.shots, task.limit, tell)
    else:
        arc = load_arc(root, task.split)
        files = arc.files
        result = evaluate_arc(score, tokenizer, arc, task.limit, tell)
    return dataclasses.replace(
        result,
        protocol={**result.protocol, "max_length": score.max_length, "truncated": score.truncated},
        warnings=(*result.warnings, *_cut(score)),
        hashes={"data": hash_files(files, root if root.is_dir() else root.parent)},
    )


def _bits(
    model: Any, tokenizer: Any, task: BitsPerByte, score: BatchedScorer, tell: Callable[[int, int], None] | None
) -> Result:
    recipe = model.recipe if isinstance(model, SymbioticModel) else None
    found = load_texts(task, recipe.data.sources if recipe else {})
    window = task.window or min(recipe.data.sequence_length if recipe else WINDOW, score.max_length)
    if window > score.max_length:
        raise UserError(
            f"bits-per-byte: a window of {window} tokens, the model has {score.max_length} positions", "lower `window`"
        )
    result = evaluate_bits(score, tokenizer, found.texts[: task.limit], window, tell)
    asked = {"source": task.source, "column": task.column if task.data else None, "limit": task.limit}
    return dataclasses.replace(
        result,
        protocol={**result.protocol, **asked},
        hashes={"data": found.hash},
        warnings=(f"only the first {task.limit} text(s)",) if task.limit and task.limit < len(found.texts) else (),
    )


def _cut(score: BatchedScorer) -> list[str]:
    if not score.truncated:
        return []
    return [f"{score.truncated} request(s) lost tokens on the left: longer than the model's {score.max_length} positions"]

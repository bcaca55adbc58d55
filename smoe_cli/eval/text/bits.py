"""Task `bits-per-byte`: how many bits a model needs, on average, for a byte of text that it predicts from what stands before.

Comparable between tokenizers, for what is divided by is the text and not its tokens. Long texts are cut as the
lm-evaluation-harness cuts them for its `bits_per_byte` (0.4.13, `get_rolling_token_windows` with one token of context).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from smoe_cli.data.tokenizer import TextEncoder
from smoe_cli.errors import UserError
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.protocols import Request, Scorer
from smoe_cli.eval.results import Metric, Result

CHUNK = 64
"""Texts scored between two calls of `progress`."""


def windows(ids: Sequence[int], prefix: int, window: int) -> Iterator[Request]:
    """Requests that together predict every token once: the first `window` tokens after `prefix`, the next after the last of
    them, and so on. The last one, which is shorter, sees as much more of what came before as a window holds."""
    for start in range(0, len(ids), window):
        predicted = ids[start : start + window]
        seen = [prefix] if start == 0 else ids[start + len(predicted) - window - 1 : start]
        yield seen, predicted


def evaluate_bits(
    scorer: Scorer,
    tokenizer: Any,
    texts: Sequence[str],
    window: int,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Bits per UTF-8 byte over all texts. Each text is read on its own, after the tokenizer's bos, or its eos if it has none.

    Special tokens are not predicted. The standard error is that of a ratio of two sums over texts. `progress(done, total)` is
    called now and then, with texts. Raises UserError when the tokenizer has neither bos nor eos.
    """
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if prefix is None:
        raise UserError(
            "bits-per-byte: the tokenizer has neither bos nor eos", "the first token of a text is predicted from it"
        )
    encode = TextEncoder(tokenizer)
    bits: list[float] = []
    tokens = 0
    for start in range(0, len(texts), CHUNK):
        requests = [list(windows(encode(text), prefix, window)) for text in texts[start : start + CHUNK]]
        scores = iter(scorer.log_likelihoods([request for text in requests for request in text]))
        bits += [-sum(next(scores) for _ in text) / math.log(2) for text in requests]
        tokens += sum(len(predicted) for text in requests for _, predicted in text)
        if progress:
            progress(len(bits), len(texts))
    sizes = [len(text.encode()) for text in texts]
    return Result(
        task="bits-per-byte",
        name="bits-per-byte",
        metrics={"bits_per_byte": Metric(sum(bits) / sum(sizes), _standard_error(bits, sizes), "lower")},
        details={
            "bits": sum(bits),
            "bytes": sum(sizes),
            "tokens": tokens,
            "texts": len(texts),
            "first_token_after": tokenizer.convert_ids_to_tokens(prefix),
        },
        predictions=tuple(
            Prediction(str(index), value=own, weight=size) for index, (own, size) in enumerate(zip(bits, sizes, strict=True))
        ),
        protocol={
            "prompt": "each text on its own, after the tokenizer's bos, or eos without one",
            "prompt_sha256": hashlib.sha256("".join(f"{text}\0" for text in texts).encode()).hexdigest(),
            "window": window,
            "score": "negative log2-likelihood of the text's tokens, float32 log-softmax, per UTF-8 byte",
        },
    )


def _standard_error(bits: Sequence[float], sizes: Sequence[int]) -> float | None:
    """Of Σ bits / Σ sizes, the texts taken as a sample; None of a single text."""
    n, ratio = len(bits), sum(bits) / sum(sizes)
    if n < 2:
        return None
    squares = sum((b - ratio * size) ** 2 for b, size in zip(bits, sizes, strict=True))
    return math.sqrt(squares * n / (n - 1)) / sum(sizes)

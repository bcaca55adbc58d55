"""Log-likelihoods of continuations under a causal language model, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from smoe_cli.errors import UserError
from smoe_cli.eval.protocols import Request


class BatchedScorer:
    """Scores continuations with a transformers causal language model (or the backbone of one of ours).

    Requests are sorted by length and padded on the right, where a causal model does not look. Requests that read the same
    tokens (four choices that differ in their last token only) share one forward pass. A request longer than `max_length`
    loses tokens on the left, exactly as in lm-evaluation-harness: it reads `(context + continuation)[-(max_length+1):][:-1]`.
    `truncated` counts these requests.
    """

    def __init__(self, causal_lm: Any, max_length: int, batch_size: int = 8):
        self.causal_lm = causal_lm
        self.max_length = max_length
        self.batch_size = batch_size
        self.truncated = 0

    def log_likelihoods(self, requests: Sequence[Request]) -> list[float]:
        """For each request log p(continuation | context). Raises UserError when a continuation alone is too long."""
        by_input: dict[tuple[int, ...], list[int]] = {}
        for index, (context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length or not context:
                raise UserError(
                    f"a continuation of {len(continuation)} token(s) after a context of {len(context)} cannot be scored",
                    f"both need a token, and the continuation must fit the model's {self.max_length} positions",
                )
            self.truncated += len(context) + len(continuation) > self.max_length + 1
            by_input.setdefault(tuple([*context, *continuation][-(self.max_length + 1) :][:-1]), []).append(index)
        inputs = sorted(by_input, key=lambda ids: (-len(ids), ids))
        scores = [0.0] * len(requests)
        for start in range(0, len(inputs), self.batch_size):
            batch = inputs[start : start + self.batch_size]
            needed = [max(len(requests[index][1]) for index in by_input[ids]) for ids in batch]
            log_probs = self._log_probs(batch, needed)
            for row, ids in enumerate(batch):
                for index in by_input[ids]:
                    scores[index] = _pick(log_probs[row], requests[index][1])
        return scores

    def _log_probs(self, batch: Sequence[tuple[int, ...]], needed: Sequence[int]) -> list[Tensor]:
        """Float32 log-probabilities (needed[i], V) at the last positions of each input, on the CPU.

        The language-model head runs only at positions that some row of the batch needs.
        """
        lengths = [len(ids) for ids in batch]
        keep = sorted({p for length, n in zip(lengths, needed, strict=True) for p in range(length - n, length)})
        at = {position: column for column, position in enumerate(keep)}
        device = next(self.causal_lm.parameters()).device
        input_ids = torch.zeros(len(batch), max(lengths), dtype=torch.long)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = torch.tensor(ids)
        with torch.inference_mode():
            logits = self.causal_lm(
                input_ids=input_ids.to(device), use_cache=False, logits_to_keep=torch.tensor(keep, device=device)
            ).logits
            return [
                torch.log_softmax(logits[row, at[length - n] : at[length - 1] + 1].float(), dim=-1).cpu()
                for row, (length, n) in enumerate(zip(lengths, needed, strict=True))
            ]


def _pick(log_probs: Tensor, continuation: Sequence[int]) -> float:
    """Sum over the continuation's tokens. log_probs: (n, V) with n ≥ len(continuation), the last rows are its own."""
    tokens = torch.tensor(list(continuation))
    return float(log_probs[-len(tokens) :].gather(1, tokens.unsqueeze(1)).sum())

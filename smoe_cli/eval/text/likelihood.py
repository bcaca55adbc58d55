"""Log-likelihoods of continuations under a causal language model, in batches."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.protocols import Request
from smoe_cli.eval.text.prefix import LEAST, Prefix, common_prefix, why_not

LOGITS = 2**27
"""Most logits of a batch (half a GiB in float32): long windows and large vocabularies make batches smaller, down to one row."""

SOFTMAX = 2**24
"""Most logits that are turned into log-probabilities at once."""

NOT_FINITE = (
    "the model's log-likelihoods are not finite numbers",
    "its weights are damaged or its training diverged, or numbers leave the range of --dtype",
)
"""A message and its help."""


@dataclass
class _Row:
    """Tokens to read, and what is asked of them: (number of the request, continuation). Its last token is not read."""

    ids: tuple[int, ...]
    asked: list[tuple[int, Sequence[int]]] = field(default_factory=list)

    @property
    def predicting(self) -> range:
        """Positions whose logits are needed."""
        return range(len(self.ids) - max(len(continuation) for _, continuation in self.asked), len(self.ids))


class BatchedScorer:
    """Scores continuations with a transformers causal language model (or the backbone of one of ours).

    Requests are sorted by length and padded on the right, where a causal model does not look. Requests that read the same
    tokens (four choices that differ in their last token only) share one row. The tokens that all rows of a call begin with are
    run once, if the model allows (`prefix.why_not`) and `share_prefix` is left on. A request longer than `max_length` loses
    tokens on the left, exactly as in lm-evaluation-harness: it reads `(context + continuation)[-(max_length+1):][:-1]`, and
    shares no prefix. `truncated` counts these requests.
    """

    def __init__(self, causal_lm: Any, max_length: int, batch_size: int = 8, share_prefix: bool = True):
        self.causal_lm = causal_lm
        self.max_length = max_length
        self.batch_size = batch_size
        self.share_prefix = share_prefix and why_not(causal_lm) is None
        self.truncated = 0

    def log_likelihoods(self, requests: Sequence[Request], tell: Callable[[int], None] | None = None) -> list[float]:
        """For each request log p(continuation | context).

        Raises UserError when a continuation alone is too long, Failure when a log-likelihood is no finite number.
        `tell(done)` is called after each batch, with requests.
        """
        whole: dict[tuple[int, ...], _Row] = {}
        cut: dict[tuple[int, ...], _Row] = {}
        for number, (context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length or not context:
                raise UserError(
                    f"a continuation of {len(continuation)} token(s) after a context of {len(context)} cannot be scored",
                    f"both need a token, and the continuation must fit the model's {self.max_length} positions",
                )
            too_long = len(context) + len(continuation) > self.max_length + 1
            self.truncated += too_long
            ids = tuple([*context, *continuation][-(self.max_length + 1) :][:-1])
            (cut if too_long else whole).setdefault(ids, _Row(ids)).asked.append((number, continuation))
        scores = [0.0] * len(requests)
        done = 0
        for rows, prefix in ((list(whole.values()), self._prefix(list(whole.values()))), (list(cut.values()), None)):
            for batch in self._batches(rows):
                self._score(batch, prefix, scores)
                done += sum(len(row.asked) for row in batch)
                if tell:
                    tell(done)
        return scores

    def _prefix(self, rows: Sequence[_Row]) -> Prefix | None:
        """What all rows begin with, less what is asked of any; None when that is not worth it."""
        if not self.share_prefix or len(rows) < 2:
            return None
        length = min(common_prefix([row.ids for row in rows]), *(row.predicting.start for row in rows))
        return Prefix(self.causal_lm, rows[0].ids[:length]) if length >= LEAST else None

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Rows, the longest first, in batches of at most `batch_size`, fewer where their logits would be more than LOGITS."""
        vocabulary = self.causal_lm.config.get_text_config().vocab_size
        batch: list[_Row] = []
        positions: set[int] = set()
        for row in sorted(rows, key=lambda row: (-len(row.ids), row.ids)):
            more = positions.union(row.predicting)
            if batch and (len(batch) == self.batch_size or (len(batch) + 1) * len(more) * vocabulary > LOGITS):
                yield batch
                batch, more = [], set(row.predicting)
            batch, positions = [*batch, row], more
        if batch:
            yield batch

    def _score(self, batch: Sequence[_Row], prefix: Prefix | None, scores: list[float]) -> None:
        """Set the scores of what is asked of these rows. What comes from the device is one number for each token asked."""
        targets = sorted(
            (index, len(row.ids) - len(continuation) + offset, token, number)
            for index, row in enumerate(batch)
            for number, continuation in row.asked
            for offset, token in enumerate(continuation)
        )
        log_probs = self._log_probs([row.ids for row in batch], [target[:3] for target in targets], prefix)
        found: dict[int, list[float]] = {}
        for (*_, number), value in zip(targets, log_probs.tolist(), strict=True):
            found.setdefault(number, []).append(value)
        for number, values in found.items():
            if not all(map(math.isfinite, values)):  # the likeliest of such numbers would look like an answer
                raise Failure(*NOT_FINITE)
            scores[number] = math.fsum(values)

    def _log_probs(
        self, rows: Sequence[tuple[int, ...]], targets: Sequence[tuple[int, int, int]], prefix: Prefix | None
    ) -> Tensor:
        """For each target (row, position, token), log p(token | the row up to and with the position): float32, on the device.

        targets: ascending. The language-model head runs only at positions that some row of the batch needs.
        """
        seen = prefix.length if prefix else 0
        device = next(self.causal_lm.parameters()).device
        width = max(map(len, rows)) - seen
        keep = sorted({position for _, position, _ in targets})
        column = {position: index for index, position in enumerate(keep)}
        spots = list(dict.fromkeys(target[:2] for target in targets))
        spot = {one: index for index, one in enumerate(spots)}
        spot_of = [spot[target[:2]] for target in targets]
        input_ids = torch.tensor([[*ids[seen:], *[0] * (seen + width - len(ids))] for ids in rows], device=device)
        row_P, column_P = torch.tensor([(row, column[position]) for row, position in spots], device=device).T
        spot_T, token_T = torch.tensor([spot_of, [token for *_, token in targets]], device=device)
        keep_K = torch.tensor(keep, device=device) - seen
        with torch.inference_mode():
            logits_BKV = self.causal_lm(
                input_ids=input_ids,
                logits_to_keep=keep_K,
                **(prefix.before(len(rows), width) if prefix else {"use_cache": False}),
            ).logits
            if logits_BKV.shape[1] == width:  # of all positions: a few models know no `logits_to_keep`
                logits_BKV = logits_BKV[:, keep_K]
            picked = []
            at_once = max(1, SOFTMAX // logits_BKV.shape[-1])
            for start in range(0, len(spots), at_once):
                part = slice(start, start + at_once)
                log_probs_PV = torch.log_softmax(logits_BKV[row_P[part], column_P[part]].float(), dim=-1)
                own = slice(bisect_left(spot_of, part.start), bisect_left(spot_of, part.stop))
                picked.append(log_probs_PV[spot_T[own] - start, token_T[own]])
            return torch.cat(picked)

"""The tokens that several prompts begin with, run once: the header and examples that all questions of an MMLU subject share.

A key-value cache of the prefix is copied for every batch of what comes after it. Exact for a model whose tokens look back
through the cache alone; `why_not` says which models do not, and their prompts are then read whole.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

LEAST = 32
"""Tokens: a shorter prefix is not worth a forward pass of its own."""

LOOKS_BACK = {DynamicLayer, DynamicSlidingWindowLayer}
"""Layers of a cache to which several tokens can be added at once."""

RECURRENT = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
"""Model types whose recurrent layers (`LinearAttentionLayer`) go on from a state with several tokens at once."""

GROWING = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies depend on the prompt's length: what is cached of a prefix alone would have others."""


def why_not(causal_lm: Any) -> str | None:
    """Why prompts of this model cannot share a cached prefix; None when they can."""
    accepted = inspect.signature(causal_lm.forward).parameters
    if missing := {"past_key_values", "position_ids"} - accepted.keys():
        return f"its forward does not take {', '.join(sorted(missing))}"
    config = causal_lm.config.get_text_config(decoder=True)
    if growing := _rope_types(getattr(config, "rope_parameters", None)) & set(GROWING):
        return f"rotary embeddings of type {', '.join(growing)} depend on the prompt's length"
    if getattr(config, "attention_chunk_size", None) is not None:
        return "its attention is chunked"
    if not hasattr(config, "num_hidden_layers"):
        return "its config does not say how many layers its cache has"
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    known = LOOKS_BACK | ({LinearAttentionLayer} if config.model_type.removesuffix("_text") in RECURRENT else set())
    if other := sorted(kind.__name__ for kind in kinds - known):
        return f"its cache has layers of kind {', '.join(other)}"
    return None


def _rope_types(parameters: Any) -> set[str]:
    """The types in `rope_parameters`: one mapping, or one for each type of layer."""
    if not isinstance(parameters, Mapping):
        return set()
    own = {str(parameters["rope_type"])} if "rope_type" in parameters else set()
    return own.union(*(_rope_types(value) for value in parameters.values()))


def common_prefix(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with alike."""
    first, last = min(rows), max(rows)  # in the order of tokens, all others lie between them
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


class Prefix:
    """Tokens of a prefix, run and cached. Only for models to which `why_not` has no objection."""

    def __init__(self, causal_lm: Any, ids: Sequence[int]):
        self.length = len(ids)
        self._device = next(causal_lm.parameters()).device
        self._cache: Cache = DynamicCache(config=causal_lm.config)
        with torch.inference_mode():
            causal_lm(
                input_ids=torch.tensor([list(ids)], device=self._device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )

    def before(self, rows: int, width: int) -> dict[str, Any]:
        """Arguments of a forward pass over `rows` × `width` tokens that come after the prefix; it may write into them."""
        cache = copy.deepcopy(self._cache)
        cache.reorder_cache(cast(torch.LongTensor, torch.zeros(rows, dtype=torch.long, device=self._device)))
        positions: Tensor = torch.arange(self.length, self.length + width, device=self._device)
        return {"past_key_values": cache, "position_ids": positions.expand(rows, -1), "use_cache": True}

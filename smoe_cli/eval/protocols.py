"""What the evaluations need of a model, and nothing more: they can be tested, and used, without one of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

Request = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of its continuation; both not empty."""


class Answerer(Protocol):
    """Answers questions about images."""

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers, one for each (image, question), of at most `max_new_tokens` tokens, without special tokens."""
        ...


class Scorer(Protocol):
    """Scores continuations."""

    def log_likelihoods(self, requests: Sequence[Request]) -> list[float]:
        """For each request log p(continuation | context): natural logarithm, summed over tokens, float32 log-softmax."""
        ...

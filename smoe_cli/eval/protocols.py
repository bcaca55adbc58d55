"""What the evaluations need of a model, and nothing more: they can be tested, and used, without one of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image

Request = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of its continuation; both not empty."""


class Answerer(Protocol):
    """Answers questions about images."""

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What becomes of an image before the model sees it, as JSON: scores depend on it."""
        ...

    def check(self, name: str, image: Image.Image, question: str, max_new_tokens: int) -> None:
        """Raise UserError, calling the question `name`, when it cannot be asked, or its longest answer does not fit."""
        ...

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers, one for each (image, question), of at most `max_new_tokens` tokens, without special tokens."""
        ...


class Scorer(Protocol):
    """Scores continuations."""

    def log_likelihoods(self, requests: Sequence[Request], tell: Callable[[int], None] | None = None) -> list[float]:
        """For each request log p(continuation | context): natural logarithm, summed over tokens, float32 log-softmax.

        `tell(done)` is called now and then, with requests.
        """
        ...

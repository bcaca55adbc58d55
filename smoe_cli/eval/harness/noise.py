"""What lm-evaluation-harness prints along the way, kept apart from what `smoe` prints."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

LOGGERS = ("lm_eval", "datasets", "huggingface_hub", "httpx")
AS_ASKED = ("Overwriting default num_fewshot", "`pretrained` model kwarg", "Passed an already-initialized model")
"""Beginnings of its warnings that say what was asked for."""
MOST = 10
"""Warnings that are kept."""


class _Collector(logging.Handler):
    """Keeps each warning once, numbers apart: a prompt that is cut is told of once and not for every question."""

    def __init__(self, said: list[str]):
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        text = (record.getMessage().strip().splitlines() or [""])[0]
        known = {_without_numbers(one) for one in self.said}
        if not text.startswith(AS_ASKED) and _without_numbers(text) not in known and len(self.said) < MOST:
            self.said.append(text)


def _without_numbers(text: str) -> str:
    return "".join(letter for letter in text if not letter.isdigit())


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Within the block the harness's warnings go to the list and not to the terminal; its progress bars stay on a terminal, and
    what it prints goes beside them."""
    import datasets

    said: list[str] = []
    handler = _Collector(said)
    before = {}
    with ExitStack() as stack:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            before[logger] = (logger.propagate, logger.level, logger.handlers[:])
            logger.propagate, logger.handlers = False, [handler] if name == "lm_eval" else []
            logger.setLevel(logging.WARNING if name == "lm_eval" else logging.CRITICAL)
        stack.enter_context(redirect_stdout(sys.stderr))
        if not sys.stderr.isatty():
            errors = io.StringIO()
            stack.enter_context(redirect_stderr(errors))
            stack.enter_context(redirect_stdout(errors))
        processes = os.environ.get("DISABLE_MULTIPROC")
        os.environ["DISABLE_MULTIPROC"] = "1"  # its bootstrap would start as many processes as there are cores
        disabled = datasets.utils.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            yield said
        finally:
            if not disabled:
                datasets.enable_progress_bars()
            for logger, (propagate, level, handlers) in before.items():
                logger.propagate, logger.handlers = propagate, handlers
                logger.setLevel(level)
            os.environ.pop("DISABLE_MULTIPROC")
            if processes is not None:
                os.environ["DISABLE_MULTIPROC"] = processes

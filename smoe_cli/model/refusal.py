"""Errors of transformers about a config, as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from smoe_cli.errors import UserError


@contextmanager
def refusal(what: str) -> Iterator[None]:
    """Whatever transformers raises in the block about a config that it is given becomes a UserError.

    what: subject of the message. Which exception it is (of its validators, KeyError, AttributeError, RuntimeError, …) varies
    with the key that is wrong and with the version of transformers.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        reason = " ".join(lines[:2])
        raise UserError(
            f"{what}: transformers cannot build it from its config.json ({type(error).__name__}: {reason})",
            "correct the config, or copy it again",
        ) from error

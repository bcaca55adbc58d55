"""The two ways a command ends badly: the user can mend it (exit code 2), or the run failed (exit code 1)."""

from __future__ import annotations


class SmoeError(Exception):
    """Base of errors that are shown as a message, never as a traceback."""

    exit_code = 1

    def __init__(self, message: str, help: str | None = None):
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return self.message + (f"\n  help: {self.help}" if self.help else "")


class UserError(SmoeError):
    """A mistake in a recipe, a data row, a path or a flag. The message names the file and the place, `help` the remedy."""

    exit_code = 2


class Failure(SmoeError):
    """The run failed for a reason that no change of the recipe's wording mends (disk, divergence, damaged files)."""

    exit_code = 1

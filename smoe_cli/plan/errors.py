"""Mistakes in a recipe that only show once it is compiled, each with its place in the recipe."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_cli.errors import UserError
from smoe_cli.recipe import Problem


class PlanError(UserError):
    """The recipe is well-formed but cannot be compiled. `problems` holds every one of them, with its path in the recipe."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        lines = [f"{dotted(p.path)}: {p.message}" + (f"\n  help: {p.help}" if p.help else "") for p in self.problems]
        super().__init__("\n".join(lines))


def dotted(path: Sequence[str | int]) -> str:
    """A path in the recipe as it is written in overrides: `phases.0.learning_rate`."""
    return ".".join(str(part) for part in path)

"""A recipe file → a checked recipe whose every value knows where it was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smoe_cli.recipe.checks import check
from smoe_cli.recipe.diagnose import validate
from smoe_cli.recipe.diagnostics import Diagnostic, Problem, RecipeError, shown_place
from smoe_cli.recipe.dump import resolved_yaml
from smoe_cli.recipe.files import read
from smoe_cli.recipe.inherited import drop_cleared, explained
from smoe_cli.recipe.models import Recipe
from smoe_cli.recipe.overrides import apply
from smoe_cli.recipe.shapes import Model
from smoe_cli.recipe.tree import Marks, to_data


@dataclass(frozen=True)
class Loaded:
    """A valid recipe and where it came from. `text` is the file as written, without what it extends and without overrides."""

    recipe: Recipe
    path: Path
    text: str
    marks: Marks = field(repr=False)

    def resolved_yaml(self) -> str:
        """The whole recipe, defaults included; loads again to an equal recipe, without other files or overrides."""
        return resolved_yaml(self.recipe)

    def place(self, path: tuple[str, ...]) -> str:
        """file:line:column of the value at a path."""
        return shown_place(self.marks.locate(path))

    def error(self, problems: Iterable[Problem]) -> RecipeError:
        """Problems that were found later, at their places in the file."""
        return RecipeError(_placed(self.marks, problems))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Reads a recipe, what it extends, and overrides (`a.b.0.c=value`), and checks the whole.

    Raises RecipeError with everything that is wrong. Values are checked one by one first; only if all of them fit are they
    checked against each other.
    """
    path = Path(path)
    document = read(path)
    tree, notes = apply(document.tree, overrides)
    kept = drop_cleared(tree, Model(Recipe))
    marks = Marks(kept, document.start)
    recipe, problems = validate(Recipe, to_data(kept))
    if recipe is not None:
        problems = check(recipe)
    diagnostics = [*document.diagnostics, *notes, *_placed(marks, problems)]
    if diagnostics:
        raise RecipeError(diagnostics)
    return Loaded(recipe, path, document.text, marks)


def _placed(marks: Marks, problems: Iterable[Problem]) -> list[Diagnostic]:
    explanations = [explained(problem, marks) for problem in problems]
    return [Diagnostic(marks.locate(p.path, p.key), p.message, p.help, p) for p in explanations]

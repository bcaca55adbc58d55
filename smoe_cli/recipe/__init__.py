"""The recipe language: a YAML file → a checked, immutable Recipe that knows the place of every value. Imports no torch."""

from smoe_cli.recipe.diagnostics import Problem, RecipeError
from smoe_cli.recipe.loader import Loaded, load
from smoe_cli.recipe.models import Recipe

__all__ = ["Loaded", "Problem", "Recipe", "RecipeError", "load"]

"""Keys of a base that do not fit any more: the recipe on top of it chose another `kind` or `family`."""

from __future__ import annotations

from dataclasses import replace

from smoe_cli.recipe.diagnostics import Problem
from smoe_cli.recipe.shapes import Model, Shape, Tagged, child, tagged
from smoe_cli.recipe.tree import Branch, Items, Marks, Tree, to_data


def drop_cleared(tree: Tree, shape: Shape | None) -> Tree:
    """The tree without entries that are `null` over an inherited value and whose key its mapping, `shape`, does not have."""
    if isinstance(tree, Items):
        return replace(tree, items=tuple(drop_cleared(item, child(shape, i)) for i, item in enumerate(tree.items)))
    if not isinstance(tree, Branch):
        return tree
    data = to_data(tree)
    model = tagged(shape, data) if isinstance(shape, Tagged) else shape
    entries = {
        key: replace(entry, value=drop_cleared(entry.value, child(shape, key, data)))
        for key, entry in tree.entries.items()
        if not (entry.cleared and isinstance(model, Model) and key not in model.keys)
    }
    return replace(tree, entries=entries)


def explained(problem: Problem, marks: Marks) -> Problem:
    """The problem; if it is an inherited key that the tag of its mapping, set elsewhere, rules out, with what removes it."""
    if problem.tag is None:
        return problem
    *around, key = problem.path
    tag, here = marks.locate((*around, problem.tag)), marks.locate(problem.path, key=True)
    inherited = not here.origin.flag and (tag.origin.flag or tag.origin.order < here.origin.order)
    if not inherited:
        return problem
    where = f"`{tag.origin.label}`" if tag.origin.flag else f"{tag.origin.label}:{tag.line + 1}"
    remedy = f"`--set {'.'.join(map(str, problem.path))}=null`" if tag.origin.flag else f"`{key}: null` there"
    help = f"{problem.help}; it comes from {here.origin.label}, and {where} sets another `{problem.tag}`: {remedy} removes it"
    return replace(problem, help=help)

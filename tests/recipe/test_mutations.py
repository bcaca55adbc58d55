"""Whatever is done to a recipe: it loads, or every mistake is told at its place. Never another exception."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smoe_cli.recipe import RecipeError, load
from tests.recipe.helpers import RECIPES

BASES = ("complete", "text", "datasets", "pretrained", "upcycled")
TEXTS = {name: (RECIPES / f"{name}.yaml").read_text(encoding="utf-8") for name in BASES}
TREES = {name: yaml.safe_load(load(RECIPES / f"{name}.yaml").resolved_yaml()) for name in TEXTS}
PLACE = re.compile(r"recipe\.yaml:\d+:\d+: error: .|recipe\.yaml: error: .|--set .*: error: .")

JUNK: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            False,
            0,
            -1,
            1,
            0.5,
            10**6,
            10**30,
            1e300,
            float("inf"),
            "",
            "x",
            "rest",
            "first",
            "none",
            "most-activated",
            "text",
            "vae",
            "012",
            "yes",
            "1:30",
        ]
    ),
    st.sampled_from(
        [
            [],
            {},
            [1],
            [[0]],
            [None],
            {"kind": "bytes"},
            {"kind": None},
            {"kind": ["x"]},
            {1: 2},
            {"x": {}},
            {None: 1},
            ["text"],
            {0: 0.5},
        ]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
)


def spots(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a tree."""
    steps = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [spot for step, value in steps for spot in [(*path, step), *spots(value, (*path, step))]]


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def mutate(draw: st.DrawFn, tree: Any) -> None:
    """One change in place."""
    places = spots(tree)
    if not places:
        return
    path = draw(st.sampled_from(places))
    holder, step = at(tree, path[:-1]), path[-1]
    match draw(st.sampled_from(["delete", "rename", "replace", "swap", "wrap", "copy"])):
        case "delete":
            del holder[step]
        case "rename" if isinstance(holder, dict):
            other = draw(st.one_of(st.sampled_from([p[-1] for p in places]), st.text(max_size=8), st.integers(-2, 2)))
            holder[f"{step}{draw(st.sampled_from(['s', '_', 'x']))}" if draw(st.booleans()) else other] = holder.pop(step)
        case "swap":
            other = draw(st.sampled_from(places))
            if other[: len(path)] != path and path[: len(other)] != other:
                outer, there = at(tree, other[:-1]), other[-1]
                holder[step], outer[there] = outer[there], holder[step]
        case "wrap":
            holder[step] = [holder[step]] if draw(st.booleans()) else {"kind": holder[step]}
        case "copy" if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[step]))
        case _:
            holder[step] = copy.deepcopy(draw(JUNK))  # so that no later change reaches the strategy


@st.composite
def mutated_trees(draw: st.DrawFn) -> str:
    tree = copy.deepcopy(TREES[draw(st.sampled_from(sorted(TREES)))])
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, tree)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=draw(st.booleans()))


SCRAPS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        [
            ":",
            ": ",
            "- ",
            "\n",
            "\n  ",
            "\t",
            "[",
            "]",
            "{",
            "}",
            ",",
            "'",
            '"',
            "#",
            "&a ",
            "*a",
            "!",
            "|",
            ">",
            "%",
            "@",
            "<<: ",
            "---\n",
            "\\",
            "?",
        ]
    ),
)


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    text = TEXTS[draw(st.sampled_from(sorted(TEXTS)))]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.sampled_from([0, 0, 1, 2, 5, 40]))
        match draw(st.sampled_from(["insert", "delete", "double"])):
            case "insert":
                text = text[:start] + draw(SCRAPS) + text[stop:]
            case "delete":
                text = text[:start] + text[stop:]
            case "double":
                text = text[:stop] + text[start:stop] + text[stop:]
    return text


def check(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> None:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    problem: RecipeError | None = None
    try:
        loaded = load(path, overrides)
    except RecipeError as error:
        problem = error
    if problem is None:
        path.write_text(loaded.resolved_yaml(), encoding="utf-8", newline="")
        assert load(path).recipe == loaded.recipe
        return
    blocks = str(problem).removesuffix(f"\n\n{len(problem.problems)} errors").split("\n\n")
    assert len(blocks) == len(problem.problems) > 0
    assert all(PLACE.search(block.split("\n")[0]) for block in blocks)


SETTINGS = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@SETTINGS
@given(text=mutated_trees())
def test_mutated_values(text: str, tmp_path: Path) -> None:
    check(tmp_path, text)


@SETTINGS
@given(text=mutated_texts())
def test_mutated_text(text: str, tmp_path: Path) -> None:
    check(tmp_path, text)


@SETTINGS
@given(
    path=st.lists(
        st.sampled_from(sorted({str(step) for tree in TREES.values() for spot in spots(tree) for step in spot})), max_size=5
    ),
    scrap=SCRAPS,
    value=st.one_of(SCRAPS, JUNK.map(str)),
)
def test_any_override(path: list[str], scrap: str, value: str, tmp_path: Path) -> None:
    check(tmp_path, TEXTS["complete"], (f"{'.'.join(path)}{scrap}={value}",))

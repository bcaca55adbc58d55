"""Whatever is done to a recipe on a checkpoint: it compiles to a whole plan, or every mistake is told at its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smoe_cli.plan import PlanError, compile_plan
from smoe_cli.recipe import RecipeError, load
from tests.families.conftest import Written
from tests.plan.pretrained import RISING, backbone_of, data_of, profile_of

FAMILIES = ("olmoe", "deepseek_v3", "ernie4_5_vl_moe", "qwen3_vl_moe", "llama", "qwen2_moe")

SELECT: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["first", "last", "random", "rest", "most-activated", "least-activated"]),
    st.lists(st.integers(-1, 16), max_size=8, unique=True),
    st.lists(st.permutations(range(8)).map(lambda order: list(order[:6])), min_size=2, max_size=3),
)
GROUP = st.fixed_dictionaries(
    {"experts": st.integers(1, 9)},
    optional={
        "select": SELECT,
        "mount": st.fixed_dictionaries({"group": st.sampled_from("abc")}, optional={"noise": st.floats(0, 1)}),
    },
)
SHARED: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.just("none"), st.fixed_dictionaries({"promote": st.integers(1, 3)}), st.just({"modalities": ["text"]})
)
VISION = st.sampled_from([{"family": "own", "image_size": [32, 32]}, {"family": "own", "image_size": [24, 32]}, None])
SERVED = [
    [["text", "vit", "vae"]],
    [["text", "vit"], ["vae"]],
    [["text"], ["vit", "vae"]],
    [["text"], ["vit"], ["vae"]],
]
WORDS = ["first", "last", "random", "most-activated", "least-activated"]


@st.composite
def sound(draw: st.DrawFn, experts: int) -> list[dict[str, Any]]:
    """Groups that share out `experts`, or mount the first of them."""
    served = draw(st.sampled_from(SERVED))
    groups: list[dict[str, Any]] = [{"name": n, "modalities": m} for n, m in zip("abc", served, strict=False)]
    mounting = draw(st.booleans())
    left = experts
    for index, group in enumerate(groups):
        last = index == len(groups) - 1
        if mounting and index:
            group |= {"experts": experts * draw(st.integers(1, 2)), "mount": {"group": "a"}}
        else:
            group["experts"] = left if last or mounting else draw(st.integers(2, left - 2 * (len(groups) - index - 1)))
            group["select"] = "rest" if last or mounting else draw(st.sampled_from(WORDS))
            left -= group["experts"]
    return groups


@st.composite
def changes(draw: st.DrawFn, experts: int) -> dict[str, Any]:
    """Sound groups, and here and there something that may not fit."""
    promoted = draw(st.sampled_from([0, 0, 0, 1]))
    groups = draw(sound(experts - promoted))
    if draw(st.integers(0, 2)) == 0:
        groups[draw(st.integers(0, len(groups) - 1))] |= draw(GROUP)
    found: dict[str, Any] = {"model.groups": groups}
    if promoted:
        found["model.shared"] = {"promote": promoted}
    for key, values in (
        ("model.shared", SHARED),
        ("model.vision", VISION),
        ("model.image_positions", st.sampled_from(["shared", "mrope"])),
        ("data.sequence_length", st.sampled_from([8, 64, 512])),
        ("training", st.just({})),
    ):
        if draw(st.integers(0, 11)) == 0:
            found[key] = draw(values)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_recipe(family: str, data: st.DataObject, written: Written, tmp_path: Path) -> None:
    folder = written(family)
    backbone = backbone_of(folder)
    changed = data.draw(changes(backbone.num_experts or 8))
    selects = {str(group.get("select")) for group in changed["model.groups"]}
    if backbone.num_experts and (selects & set(WORDS[3:]) or "promote" in (changed.get("model.shared") or {})):
        counts = {"text": tuple((*row, *row)[: backbone.num_experts] for row in RISING[: len(backbone.moe_layers)])}
        (tmp_path / "p.json").write_text(json.dumps(profile_of(backbone, counts).to_dict()))
        changed["model.profile"] = str(tmp_path / "p.json")
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(data_of(folder, **changed)))
    try:
        loaded = load(path)
    except RecipeError:
        return
    plan = error = None
    try:
        plan = compile_plan(loaded.recipe)
    except PlanError as raised:
        error = raised
    if plan is None:
        assert error is not None
        assert error.problems
        assert all(problem.path for problem in error.problems)
        assert ": error: " in str(loaded.error(error.problems))
        return
    assert sum(plan.parameters.roles.values()) == sum(tensor.numel for tensor in plan.tensors)
    assert len({tensor.name for tensor in plan.tensors}) == len(plan.tensors)
    taken = {name for tensor in plan.tensors if tensor.origin for name in tensor.origin.names}
    dropped = {n for n, part in backbone.parts.items() if part.kind in ("shared", "shared_gate")}
    assert taken == set(backbone.tensors) - (dropped if loaded.recipe.model.shared == "none" else set())
    for group in plan.groups:
        assert group.size >= plan.top_k >= 1

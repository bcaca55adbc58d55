"""Groups chosen by a profile, promoted experts, and what a split keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from smoe_cli.plan import Plan, compile_plan
from smoe_cli.plan.groups import compile_groups, promote
from smoe_cli.plan.kept import kept
from smoe_cli.plan.profile import Counts, Profile
from smoe_cli.plan.source import Source
from smoe_cli.recipe.routed import Routed
from tests.families.conftest import Written
from tests.plan.pretrained import RISING, backbone_of, plan_of, profile_of, recipe_of

LAYERS, EXPERTS = 3, 8
RULES = ("most-activated", "least-activated", "first", "last", "random")


def write(folder: Path, counts: dict[str, Counts], path: Path) -> str:
    path.write_text(json.dumps(profile_of(backbone_of(folder), counts).to_dict()))
    return str(path)


def split(folder: Path, counts: dict[str, Counts], rule: str, tmp_path: Path) -> Plan:
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 6, "select": rule},
        {"name": "generation", "modalities": ["vae"], "experts": 2},
    ]
    return plan_of(folder, **{"model.profile": write(folder, counts, tmp_path / "p.json"), "model.groups": groups})


def test_most_and_least_activated(written: Written, tmp_path: Path) -> None:
    folder = written("olmoe")
    assert split(folder, {"text": RISING}, "most-activated", tmp_path).groups[0].experts == ((2, 3, 4, 5, 6, 7),) * 3
    assert split(folder, {"text": RISING}, "least-activated", tmp_path).groups[0].experts == ((0, 1, 2, 3, 4, 5),) * 3


def test_modalities_of_the_group_are_summed(written: Written, tmp_path: Path) -> None:
    """vae does not count for the group of text and vit, and what they use together decides."""
    text, vit, vae = (((*row, 0, 0, 0, 0, 0),) * LAYERS for row in ((5, 0, 3), (0, 4, 3), (0, 9, 0)))
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 2, "select": "most-activated"},
        {"name": "generation", "modalities": ["vae"], "experts": 6},
    ]
    path = write(written("olmoe"), {"text": text, "vit": vit, "vae": vae}, tmp_path / "q.json")
    assert plan_of(written("olmoe"), **{"model.profile": path, "model.groups": groups}).groups[0].experts[0] == (0, 2)


def test_a_group_of_unseen_modalities_goes_by_all(written: Written, tmp_path: Path) -> None:
    groups = [
        {"name": "generation", "modalities": ["vae"], "experts": 2, "select": "least-activated"},
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 6},
    ]
    path = write(written("olmoe"), {"text": RISING, "vit": RISING}, tmp_path / "p.json")
    plan = plan_of(written("olmoe"), **{"model.profile": path, "model.groups": groups})
    assert plan.groups[0].experts == ((0, 1),) * 3


def test_ties_go_to_the_lower_index(written: Written, tmp_path: Path) -> None:
    flat = ((1,) * EXPERTS,) * LAYERS
    for rule in ("most-activated", "least-activated"):
        assert split(written("olmoe"), {"text": flat}, rule, tmp_path).groups[0].experts == ((0, 1, 2, 3, 4, 5),) * 3
    assert promote(profile_of(backbone_of(written("olmoe")), {"text": flat}), 2) == ((0, 1),) * 3


tables = st.lists(st.lists(st.integers(0, 5), min_size=EXPERTS, max_size=EXPERTS).map(tuple), min_size=LAYERS, max_size=LAYERS)
profiles = st.dictionaries(st.sampled_from(["text", "vit", "vae"]), tables.map(tuple), min_size=1).map(
    lambda counts: Profile("olmoe", None, (0, 1, 2), EXPERTS, 2, dict.fromkeys(counts, 1), counts, counts)
)


@settings(deadline=None, max_examples=60)
@given(profile=profiles, sizes=st.sampled_from([(6, 2), (2, 6), (4, 4)]), rules=st.tuples(*[st.sampled_from(RULES)] * 2))
def test_any_profile_gives_a_partition(
    profile: Profile, sizes: tuple[int, int], rules: tuple[str, str], written: Written
) -> None:
    groups = [
        {"name": "a", "modalities": ["text", "vit"], "experts": sizes[0], "select": rules[0]},
        {"name": "b", "modalities": ["vae"], "experts": sizes[1], "select": rules[1]},
    ]
    made = recipe_of(written("olmoe"), **{"model.groups": groups})
    routed = Routed((EXPERTS,), LAYERS, 2, "", "")
    chosen = compile_groups(made, routed, (), profile)
    assert chosen == compile_groups(made, routed, (), profile)
    for layer in range(LAYERS):
        a, b = (group.experts[layer] for group in chosen)
        assert sorted(a + b) == list(range(EXPERTS))
        assert (len(a), len(b)) == sizes
        if rules[0] == "most-activated":
            seen = [m for m in ("text", "vit") if m in profile.counts] or list(profile.counts)
            score = [sum(profile.counts[m][layer][e] for m in seen) for e in range(EXPERTS)]
            assert min((score[e], -e) for e in a) > max((score[e], -e) for e in b)


@settings(deadline=None, max_examples=60)
@given(profile=profiles, number=st.integers(1, 4))
def test_what_is_kept_adds_up(profile: Profile, number: int, written: Written) -> None:
    """Promoted experts are reached by all, the others by their group."""
    promoted = promote(profile, number)
    routed = Routed((EXPERTS,), LAYERS, 2, "", "", promoted=number)
    groups = [
        {"name": "a", "modalities": ["text", "vit", "vae"], "experts": 4, "select": "first"},
        {"name": "b", "modalities": ["vae"], "experts": 4 - number, "select": "rest"},
    ]
    made = recipe_of(written("olmoe"), **{"model.groups": groups[: 2 if number < 4 else 1]})
    chosen = compile_groups(made, routed, promoted, profile)
    shares = kept(profile, chosen, promoted)
    for modality, table in profile.counts.items():
        inside = sum(
            n
            for layer, row in enumerate(table)
            for expert, n in enumerate(row)
            if expert in chosen[0].experts[layer] or expert in promoted[layer]
        )
        total = sum(map(sum, table))
        assert shares[modality]["counts"] == (inside / total if total else 1.0)


def test_kept_shares(written: Written, tmp_path: Path) -> None:
    plan = split(written("olmoe"), {"text": RISING, "vae": RISING}, "most-activated", tmp_path)
    total = sum(map(sum, RISING))
    mine = sum(sum(row[2:]) for row in RISING)
    assert plan.kept["text"]["counts"] == mine / total
    assert plan.kept["vae"]["counts"] == (total - mine) / total
    squares = sum(n * n for row in RISING for n in row)
    assert plan.kept["text"]["mass"] == sum(n * n for row in RISING for n in row[2:]) / squares
    assert set(plan.kept) == {"text", "vae"}
    assert plan_of(written("olmoe")).kept == {}


def test_promotion(written: Written, tmp_path: Path) -> None:
    folder = written("qwen3_moe")
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 5, "select": "first"},
        {"name": "generation", "modalities": ["vae"], "experts": 2},
    ]
    changes = {"model.shared": {"promote": 1}, "model.groups": groups}
    plan = plan_of(folder, **{**changes, "model.profile": write(folder, {"text": RISING}, tmp_path / "p.json")})
    assert plan.promoted == ((7,),) * 3
    assert plan.top_k == 1
    assert [group.experts[0] for group in plan.groups] == [(0, 1, 2, 3, 4), (5, 6)]
    tensors = {tensor.name: tensor for tensor in plan.tensors if tensor.role == "shared"}
    layer = "backbone.model.layers.1.mlp"
    assert {name: t.shape for name, t in tensors.items() if name.startswith(f"{layer}.")} == {
        f"{layer}.promoted_router.weight": (1, 32),
        f"{layer}.promoted.gate_up_proj": (1, 24, 32),
        f"{layer}.promoted.down_proj": (1, 32, 12),
    }
    assert all(tensor.origin is not None and tensor.origin.rows == (7,) for tensor in tensors.values())
    assert plan.parameters.added == plan.parameters.left_out == 0
    split_only = plan_of(folder)
    assert plan.active["text"].total == split_only.active["text"].total  # one expert fewer is chosen, one is always on


def test_the_profile_travels_with_the_source(written: Written, tmp_path: Path) -> None:
    folder = written("olmoe")
    plan = split(folder, {"text": RISING}, "most-activated", tmp_path)
    (tmp_path / "p.json").unlink()
    stored = Source.from_dict(json.loads(json.dumps(plan.source.to_dict())))
    groups = [
        {"name": "understanding", "modalities": ["text", "vit"], "experts": 6, "select": "most-activated"},
        {"name": "generation", "modalities": ["vae"], "experts": 2},
    ]
    made = recipe_of(folder, **{"model.profile": str(tmp_path / "p.json"), "model.groups": groups})
    assert dataclasses.replace(compile_plan(made, source=stored), source=plan.source) == plan

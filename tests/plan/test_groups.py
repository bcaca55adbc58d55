"""Which experts go to which group."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoe_cli.plan import compile_plan
from smoe_cli.recipe.nodes import MODALITIES
from tests.plan.recipes import recipe

UNIFORM = {f"phases.{i}.learning_rate": {"default": 1e-3} for i in (0, 1)}


def experts(*groups: dict, seed: int = 3) -> list[tuple[tuple[int, ...], ...]]:
    """Experts of each group; the first groups serve one modality each, the last one those that are left."""
    served = [[modality] for modality in MODALITIES[: len(groups) - 1]] + [list(MODALITIES[len(groups) - 1 :])]
    written = [{"name": f"g{i}", "modalities": served[i], **group} for i, group in enumerate(groups)]
    plan = compile_plan(recipe(**{"model.groups": written, "seed": seed, **UNIFORM}))
    return [group.experts for group in plan.groups]


def test_first_last_and_rest() -> None:
    chosen = experts({"experts": 3, "select": "last"}, {"experts": 2, "select": "first"}, {"experts": 3, "select": "rest"})
    assert chosen == [((5, 6, 7),) * 2, ((0, 1),) * 2, ((2, 3, 4),) * 2]


def test_rules_take_what_earlier_groups_left() -> None:
    chosen = experts({"experts": 2, "select": [0, 7]}, {"experts": 3, "select": "first"}, {"experts": 3, "select": "last"})
    assert chosen == [((0, 7),) * 2, ((1, 2, 3),) * 2, ((4, 5, 6),) * 2]


def test_written_indices_become_ascending() -> None:
    assert experts({"experts": 2, "select": [6, 1]}, {"experts": 6})[0] == ((1, 6),) * 2


def test_one_list_for_each_layer() -> None:
    chosen = experts({"experts": 2, "select": [[1, 0], [7, 6]]}, {"experts": 6})
    assert chosen == [((0, 1), (6, 7)), ((2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 4, 5))]


def test_random_is_a_function_of_seed_and_layer() -> None:
    def draw(seed: int) -> tuple[tuple[int, ...], ...]:
        return experts({"experts": 4, "select": "random"}, {"experts": 4}, seed=seed)[0]

    assert draw(3) == draw(3) == ((4, 5, 6, 7), (0, 1, 2, 6))  # written out: a change would silently change trained models
    assert len({draw(seed) for seed in range(10)}) > 5
    assert any(draw(seed)[0] != draw(seed)[1] for seed in range(10))


@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**31 - 1))
def test_groups_are_a_partition_of_every_layer(data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, 3))
    rules: list = [data.draw(st.sampled_from(["first", "last", "random"])) for _ in range(count - 1)]
    rules.append(data.draw(st.sampled_from(["first", "last", "random", "rest"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, 8 - 2 * count), min_size=count - 1, max_size=count - 1)))
    sizes = [2 + high - low for low, high in zip([0, *cuts], [*cuts, 8 - 2 * count], strict=True)]
    if data.draw(st.booleans()):  # the first group writes its experts down
        rules[0] = data.draw(st.permutations(range(8)))[: sizes[0]]
    chosen = experts(*({"experts": n, "select": rule} for n, rule in zip(sizes, rules, strict=True)), seed=seed)
    for layer in range(2):
        taken = [group[layer] for group in chosen]
        assert sorted(expert for group in taken for expert in group) == list(range(8))
        assert [len(group) for group in taken] == sizes
        assert all(list(group) == sorted(group) for group in taken)


def test_group_of_a_modality() -> None:
    assert compile_plan(recipe()).group_of == {"text": 0, "vit": 0, "vae": 1}


@pytest.mark.parametrize(
    "groups",
    [
        [{"experts": 6, "select": "first"}, {"experts": 1, "select": "first"}],
        [{"experts": 6, "select": "first"}, {"experts": 2, "select": [5, 6]}],
        [{"experts": 2, "select": [3, 3]}, {"experts": 6}],
        [{"experts": 2, "select": [0, 8]}, {"experts": 6}],
        [{"experts": 6, "select": "rest"}, {"experts": 2, "select": "first"}],
    ],
)
def test_a_recipe_that_the_loader_would_refuse_is_not_compiled(groups: list[dict]) -> None:
    with pytest.raises(AssertionError):
        experts(*groups)

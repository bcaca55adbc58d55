"""Keyed randomness and permutations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.data.keys import digest, generator, shuffled


@given(size=st.integers(1, 700), key=st.integers(0, 2**31))
def test_shuffled_is_a_permutation(size: int, key: int) -> None:
    assert sorted(shuffled(i, size, key) for i in range(size)) == list(range(size))


@given(size=st.integers(2**20, 2**60), key=st.integers(0, 9), data=st.data())
def test_shuffled_of_a_large_range_stays_inside_and_apart(size: int, key: int, data: st.DataObject) -> None:
    positions = data.draw(st.sets(st.integers(0, size - 1), max_size=20))
    landed = {shuffled(position, size, key) for position in positions}
    assert len(landed) == len(positions)
    assert all(0 <= place < size for place in landed)


@pytest.mark.parametrize("size", [3, 4, 10, 1000])
def test_every_place_is_equally_likely(size: int) -> None:
    """Over many keys, where position 0 lands and where the last one lands are close to uniform (chi-squared)."""
    for position in (0, size - 1):
        buckets = min(size, 10)
        counts = [0] * buckets
        for key in range(3000):
            counts[shuffled(position, size, "uniform", key) * buckets // size] += 1
        expected = 3000 / buckets
        # 9 degrees of freedom or fewer: 33.7 has a chance of 1e-4
        assert sum((n - expected) ** 2 / expected for n in counts) < 33.7


def test_epochs_are_shuffled_differently() -> None:
    orders = {tuple(shuffled(i, 30, "rows", epoch) for i in range(30)) for epoch in range(50)}
    assert len(orders) == 50


def test_position_outside_the_range_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        shuffled(3, 3, "key")


def test_keys_differ_by_type_and_grouping() -> None:
    assert len({digest(1, 2), digest(12), digest("1", 2), digest("1, 2"), digest(1, 2, 0)}) == 5


def test_streams_are_fixed_for_all_time() -> None:
    """A change here changes what every existing recipe trains on."""
    assert digest("lane", 3) == 0xEDEA35690252E93EB572A47934FD0D4A
    assert generator("lane", 3).integers(0, 1000, size=5).tolist() == [701, 473, 946, 954, 13]
    assert [shuffled(i, 10, "lane", 3) for i in range(10)] == [9, 6, 4, 8, 1, 3, 7, 2, 0, 5]

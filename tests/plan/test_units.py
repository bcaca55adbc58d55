"""Numbers as people read them."""

from __future__ import annotations

import pytest

from smoe_cli.plan import units


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00K"),
        (999_499, "999K"),
        (999_600, "1.00M"),
        (12_345_678, "12.3M"),
        (3_340_000_000, "3.34B"),
        (39_321_600_000, "39.3B"),
        (2e13, "20.0T"),
    ],
)
def test_count(number: float, text: str) -> None:
    assert units.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (2**20 - 1, "1.00 MiB"), (1536, "1.50 KiB"), (2**30, "1.00 GiB")]
)
def test_size(number: int, text: str) -> None:
    assert units.size(number) == text


@pytest.mark.parametrize(("number", "text"), [(0.0, "0"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.1, "1e-1"), (3.0, "3e0")])
def test_rate(number: float, text: str) -> None:
    assert units.rate(number) == text


@pytest.mark.parametrize(
    ("numbers", "text"), [((0, 1, 2), "0-2"), ((5,), "5"), ((0, 2, 3, 9), "0, 2-3, 9"), ((), ""), ((1, 2), "1-2")]
)
def test_indices(numbers: tuple[int, ...], text: str) -> None:
    assert units.indices(numbers) == text

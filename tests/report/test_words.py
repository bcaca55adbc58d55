"""Numbers as a reader wants them."""

from __future__ import annotations

import math

import pytest

from smoe_cli.report import words


@pytest.mark.parametrize("value", [None, True, "3", math.nan, math.inf, [], 10**400])
def test_what_is_no_finite_number_is_an_en_dash(value: object) -> None:
    assert words.number(value) is None
    assert {words.count(value), words.short(value), words.digits(value), words.percent(value), words.duration(value)} == {"–"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (999, "999"),
        (12345, "12.3 k"),
        (2403440, "2.4 M"),
        (999_999, "1 M"),
        (3e10, "30 G"),
        (1e18, "1000 P"),
        (0.5, "0.5"),
        (3281.4, "3,281"),
    ],
)
def test_short(value: float, written: str) -> None:
    assert words.short(value) == written


@pytest.mark.parametrize(
    ("value", "error", "written"),
    [
        (3.7369, 0.1032, "3.74"),
        (3.94, 0.1032, "3.94"),
        (3.9, 0.1032, "3.90"),
        (-0.25, 0.01, "−0.250"),
        (1234.56, 30.0, "1235"),
        (0.12345, None, "0.1235"),
        (0.12345, 0.0, "0.1235"),
        (3.0e9, 0.5, "3e+09"),
        (None, 0.5, "–"),
    ],
)
def test_a_number_has_no_more_digits_than_its_standard_error_leaves(value: object, error: object, written: str) -> None:
    assert words.certain(value, error) == written


@pytest.mark.parametrize(
    ("share", "written"), [(0, "0.0 %"), (0.765, "76.5 %"), (0.0003, "<0.1 %"), (-0.02, "−2.0 %"), (1, "100.0 %")]
)
def test_percent_never_shows_a_small_share_as_zero(share: float, written: str) -> None:
    assert words.percent(share) == written


@pytest.mark.parametrize(("difference", "written"), [(-0.02, "−2.0"), (0.0631, "+6.3"), (0.0001, "0.0"), (-0.0001, "0.0")])
def test_points_are_signed(difference: float, written: str) -> None:
    assert words.points(difference) == written


@pytest.mark.parametrize(
    ("value", "written"), [(1e-6, "1e-06"), (0.001, "0.001"), (2.34567, "2.346"), (-1.5, "−1.5"), (0.0, "0")]
)
def test_digits(value: float, written: str) -> None:
    assert words.digits(value) == written


@pytest.mark.parametrize(("seconds", "written"), [(2.5, "2.5 s"), (75, "1 min 15 s"), (3725, "1 h 2 min")])
def test_duration(seconds: float, written: str) -> None:
    assert words.duration(seconds) == written


def test_counts_are_grouped() -> None:
    assert words.count(1234567) == "1,234,567"
    assert words.kilobytes(412_345) == "412 kB"
    assert words.kilobytes(1_234_567) == "1.2 MB"

"""Which words are numbers, which are text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.recipe.scalars import Scalar, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("3_000", 3000),
        ("1_000_000", 1_000_000),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e6", 1_000_000),
        ("1E+6", 1_000_000),
        ("2.0", 2),
        ("2e-5", 2e-5),
        ("2.5", 2.5),
        (".5", 0.5),
        ("5.", 5),
        ("0.5", 0.5),
        ("-0.5e-3", -0.5e-3),
        ("1_000.5", 1000.5),
        ("9223372036854775807", 2**63 - 1),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_values(text: str, value: Scalar) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "no", "on", "off", "y", "n", "Yes", "OFF"),
        *("1:30", "1:30:00", "012", "0_1", "-01", "00", "01.5", "0b1", "0x", "1__0", "_1", "1_", "1e", "e5", "1e5.0", "1_e5"),
        *("2026-11-01", "1.2.3", "1,000", "inf", "nan", "None", "tRUE", "٣", "=", "<<"),
    ],
)
def test_text(text: str) -> None:
    assert resolve(text) == text
    assert isinstance(resolve(text), str)


def test_not_a_number() -> None:
    value = resolve(".nan")
    assert isinstance(value, float)
    assert math.isnan(value)


@given(st.integers())
def test_every_integer(value: int) -> None:
    """Beyond 64 bits an integer is a float, so that nothing huge is computed with."""
    read = resolve(str(value))
    assert read == (value if abs(value) < 2**63 else float(value))
    assert type(read) is (int if abs(value) < 2**63 else float)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float(value: float) -> None:
    assert resolve(repr(value)) == value


def test_numbers_of_any_length_are_read() -> None:
    assert resolve("9" * 10_000) == math.inf
    assert resolve("1e" + "9" * 10_000) == math.inf
    assert resolve("0." + "3" * 10_000) == pytest.approx(1 / 3)

"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: float) -> str:
    """Three significant digits and K, M, B, T: 3.34B."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= 0.9995 * factor:
            return _three(number / factor) + suffix
    return str(round(number))


def size(number: float) -> str:
    """Bytes in binary units: 1.25 GiB."""
    for factor, suffix in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= 0.9995 * factor:
            return f"{_three(number / factor)} {suffix}"
    return f"{round(number)} B"


def rate(number: float) -> str:
    """A learning rate as one writes it: 1e-4, 2.5e-5, 0."""
    if number == 0:
        return "0"
    mantissa, exponent = f"{number:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def indices(numbers: Sequence[int]) -> str:
    """Ascending numbers with runs shortened: 0-95, 100."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _three(number: float) -> str:
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{decimals}f}"

"""Numbers as a reader wants them: thousands separated, few digits, a real minus sign."""

from __future__ import annotations

from math import floor, log10

LARGEST = 1e300
UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: object) -> float | None:
    """`value` as a float below 1e300 in size, so that sums stay finite; None when it is no number (booleans are none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if abs(as_float) < LARGEST else None


def whole(value: object) -> int | None:
    """`value` as an int, or None when it is no finite number."""
    as_float = number(value)
    return None if as_float is None else int(as_float)


def count(value: object) -> str:
    """12345 → `12,345`; an en dash when there is no number."""
    as_int = whole(value)
    return "–" if as_int is None else f"{as_int:,}".replace("-", "−")


def short(value: object) -> str:
    """2345678 → `2.35 M`: three digits and a decimal unit (k, M, G, T, P); below 10,000 in full."""
    as_float = number(value)
    if as_float is None:
        return "–"
    if abs(as_float) >= 1e4:
        rounded = float(f"{as_float:.3g}")
        size, unit = next(pair for pair in UNITS if abs(rounded) >= pair[0])
        return f"{rounded / size:.{3 if abs(rounded / size) < 1000 else 6}g} {unit}"
    return f"{as_float:,.0f}" if abs(as_float) >= 100 or as_float == int(as_float) else f"{as_float:.3g}"


def digits(value: object) -> str:
    """A measured number with four digits: `2.345`, `0.0123`, `1e-06`."""
    as_float = number(value)
    return "–" if as_float is None else f"{as_float:.4g}".replace("-", "−", 1) if as_float < 0 else f"{as_float:.4g}"


def certain(value: object, error: object) -> str:
    """A measured number as far as its standard error's second digit: `3.737` of which 0.103 is uncertain → `3.74`.

    Without an error, or with one that is far smaller or larger than the number, four digits.
    """
    as_float, spread = number(value), number(error)
    if as_float is None or not spread or not 1e-6 < spread < 100 or abs(as_float) > 1e6:
        return digits(value)
    return f"{as_float:.{max(0, 1 - floor(log10(spread)))}f}".replace("-", "−")


def percent(share: object) -> str:
    """0.765 → `76.5 %`; what would read as 0.0 % without being 0 is `<0.1 %`."""
    as_float = number(share)
    if as_float is None:
        return "–"
    return "<0.1 %" if 0 < as_float < 0.0005 else f"{100 * as_float:.1f} %".replace("-", "−")


def points(difference: float) -> str:
    """A difference of shares in percentage points, always signed: `−2.0`, `+6.3`, `0.0`."""
    written = f"{100 * difference:+.1f}"
    return "0.0" if written in ("+0.0", "-0.0") else written.replace("-", "−")


def signed(difference: float) -> str:
    """A difference of other measured numbers, always signed: `−0.0123`, `+2.5`, `0`."""
    return "0" if difference == 0 else f"{difference:+.3g}".replace("-", "−", 1)


def duration(seconds: object) -> str:
    """3725 → `1 h 2 min`; 75 → `1 min 15 s`; 2.5 → `2.5 s`."""
    total = number(seconds)
    if total is None:
        return "–"
    if total < 60:
        return f"{total:.3g} s"
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def kilobytes(size: int) -> str:
    """412345 bytes → `412 kB`; from a million on, `1.2 MB`."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.0f} kB"


def clip(text: str, most: int) -> str:
    """At most `most` characters, with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"

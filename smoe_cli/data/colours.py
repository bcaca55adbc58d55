"""Named colours and the pairs of ink and paper that are easy to tell apart."""

from __future__ import annotations

RGB = tuple[int, int, int]

PALETTE: dict[str, RGB] = {
    "black": (20, 20, 20),
    "red": (190, 25, 30),
    "green": (20, 110, 40),
    "blue": (30, 60, 190),
    "purple": (110, 35, 150),
    "brown": (105, 60, 25),
    "white": (245, 245, 245),
    "yellow": (250, 225, 80),
    "pink": (250, 185, 205),
    "cyan": (140, 230, 235),
    "lime": (175, 235, 110),
    "orange": (250, 165, 60),
}

JITTER = 8
"""Each channel of ink and paper is moved by up to this much."""

CONTRAST = 4.0
"""Smallest WCAG contrast ratio of a pair as listed; jitter leaves at least 3."""


def contrast(first: RGB, second: RGB) -> float:
    """Contrast ratio of WCAG 2: 1 = equal, 21 = black on white."""
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: RGB) -> float:
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PAIRS: tuple[tuple[str, str], ...] = tuple(
    (ink, paper) for ink in PALETTE for paper in PALETTE if contrast(PALETTE[ink], PALETTE[paper]) >= CONTRAST
)
"""(ink, paper): dark on light and light on dark."""

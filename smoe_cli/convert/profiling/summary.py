"""A profile in a few numbers for each modality."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from smoe_cli.plan.profile import Profile

if TYPE_CHECKING:
    from rich.table import Table

SHARES = (0.25, 0.5, 0.75)
"""Of the experts of a layer, the most used ones."""


@dataclass(frozen=True)
class Summary:
    """One modality. taken: for each of SHARES, the share of assignments that the most used experts of a layer take, mean over
    layers. dead, of: experts, over all layers, that no token chose; and how many there are."""

    modality: str
    tokens: int
    taken: tuple[float, ...]
    dead: int
    of: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        taken = {f"{share:g}": taken for share, taken in zip(SHARES, self.taken, strict=True)}
        return {"modality": self.modality, "tokens": self.tokens, "taken": taken, "dead": self.dead, "of": self.of}


def summarise(profile: Profile) -> list[Summary]:
    """One line for each modality that was seen."""
    return [_summary(profile, modality) for modality in profile.modalities]


def reachable(profile: Profile, modality: str) -> range:
    """Experts that tokens of the modality can be sent to: where there are several pools, those of the pools that were used."""
    sizes = profile.pools or (profile.experts,)
    ends = list(accumulate(sizes))
    total = [sum(column) for column in zip(*profile.counts[modality], strict=True)]
    used = [(end - size, end) for size, end in zip(sizes, ends, strict=True) if any(total[end - size : end])]
    return range(used[0][0], used[-1][1])


def _summary(profile: Profile, modality: str) -> Summary:
    experts = reachable(profile, modality)
    rows = [sorted(row[experts.start : experts.stop], reverse=True) for row in profile.counts[modality]]
    firsts = [max(1, round(share * len(experts))) for share in SHARES]
    taken = tuple(sum(sum(row[:first]) / sum(row) for row in rows) / len(rows) for first in firsts)
    dead = sum(count == 0 for row in rows for count in row)
    return Summary(modality, profile.tokens[modality], taken, dead, len(rows) * len(experts))


def table(profile: Profile) -> Table:
    """The summary for the terminal."""
    from rich.table import Table

    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column("modality")
    for heading in ("tokens", *(f"top {share:.0%}" for share in SHARES), "dead experts"):
        shown.add_column(heading, justify="right")
    for line in summarise(profile):
        taken = (f"{share:.1%}" for share in line.taken)
        shown.add_row(line.modality, f"{line.tokens:,}", *taken, f"{line.dead:,} of {line.of:,}")
    return shown

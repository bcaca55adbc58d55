"""How much of what the profile saw the split keeps."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_cli.plan.profile import Profile
from smoe_cli.plan.types import GroupPlan


def kept(
    profile: Profile | None, groups: Sequence[GroupPlan], promoted: Sequence[tuple[int, ...]]
) -> dict[str, dict[str, float]]:
    """For each modality of the profile that a group serves: the share of its assignments (`counts`) and of their routing
    weights (`mass`), over all layers, that went to experts of its group or to promoted ones. Nothing seen counts as all kept.
    """
    shares: dict[str, dict[str, float]] = {}
    for modality in profile.counts if profile else ():
        group = next((group for group in groups if modality in group.modalities), None)
        if group is None:
            continue
        assert profile is not None
        reach = [set(layer) | set(promoted[n] if promoted else ()) for n, layer in enumerate(group.experts)]
        shares[modality] = {
            "counts": _share(profile.counts[modality], reach),
            "mass": _share(profile.mass[modality], reach),
        }
    return shares


def _share(table: Sequence[Sequence[float]], reach: Sequence[set[int]]) -> float:
    total = sum(sum(row) for row in table)
    inside = sum(value for row, experts in zip(table, reach, strict=True) for e, value in enumerate(row) if e in experts)
    return inside / total if total else 1.0

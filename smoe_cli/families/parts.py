"""What a tensor of a plain model is: the part of the model that it belongs to, by its name in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from smoe_cli.families.anatomy import Anatomy

Kind = Literal[
    "router",
    "bias",
    "experts",
    "shared",
    "shared_gate",
    "dense",
    "attention",
    "norms",
    "embeddings",
    "vision",
    "projector",
    "unknown",
]
"""`unknown`: no backbone that `read_backbone` returns has any."""


@dataclass(frozen=True)
class Part:
    """Where a tensor belongs. layer: -1 outside the decoder layers. pool: index into the anatomy's pools, for experts, router
    and bias. tail: the name within the module that `kind` names (`gate_up_proj`, `weight`, `wg.weight`, …); for the other
    kinds the whole name."""

    kind: Kind
    layer: int
    pool: int
    tail: str


def part_of(name: str, anatomy: Anatomy) -> Part:
    """The part that the tensor `name` of a plain model belongs to."""
    for path in anatomy.projector:
        if name.startswith(f"{path}."):
            return Part("projector", -1, 0, name)
    if anatomy.vision and name.startswith(f"{anatomy.vision}."):
        return Part("vision", -1, 0, name)
    match = re.fullmatch(rf"{re.escape(anatomy.decoder)}\.layers\.(\d+)\.(.+)", name)
    if match is None:
        return Part(_outside(name, anatomy), -1, 0, name)
    layer, rest = int(match[1]), match[2]
    if not rest.startswith(f"{anatomy.block}."):
        return Part("norms" if "norm" in rest.split(".")[-2:][0] else "attention", layer, 0, name)
    inside = rest.removeprefix(f"{anatomy.block}.")
    for number, pool in enumerate(anatomy.pools):
        path = f"{pool}." if pool else ""
        router = f"{path}{anatomy.router}."
        if inside.startswith(router):
            tail = inside.removeprefix(router)
            return Part("bias" if tail == anatomy.bias else "router", layer, number, tail)
        experts = f"{path}{anatomy.experts}."
        if inside.startswith(experts):
            return Part("experts", layer, number, inside.removeprefix(experts))
    if anatomy.shared_gate and inside.startswith(f"{anatomy.shared_gate}."):
        return Part("shared_gate", layer, 0, inside.removeprefix(f"{anatomy.shared_gate}."))
    if anatomy.shared and inside.startswith(f"{anatomy.shared}."):
        return Part("shared", layer, 0, inside.removeprefix(f"{anatomy.shared}."))
    return Part("dense", layer, 0, inside)


def _outside(name: str, anatomy: Anatomy) -> Kind:
    """Of a tensor outside the decoder layers."""
    if name.startswith((f"{anatomy.decoder}.embed_tokens.", "lm_head.")):
        return "embeddings"
    return "norms" if name.startswith(f"{anatomy.decoder}.norm.") else "unknown"

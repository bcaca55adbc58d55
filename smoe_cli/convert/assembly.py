"""How the tensors of a plain model are put together from ours: the inverse of surgery, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smoe_cli.families import Anatomy, Part
from smoe_cli.families.backbone import Backbone
from smoe_cli.plan import GroupPlan, Plan

BACKBONE = "backbone."
Row = tuple[str, int]
"""A tensor of ours and an index into the dimension that counts experts."""


@dataclass(frozen=True)
class Plain:
    """A tensor of the plain model. shape: its own.

    whole: the tensor of ours that it is; rows: or what stands at each index of its dimension of experts, None where we have
    nothing. Neither: zeros. axis: the dimension of experts, the first, or the last where the first does not count them (a
    selection bias of shape (1, E)).
    """

    shape: tuple[int, ...]
    whole: str | None = None
    rows: tuple[Row | None, ...] | None = None
    axis: int = 0

    @property
    def sources(self) -> tuple[str, ...]:
        """The tensors of ours that are read, each once."""
        if self.whole is not None:
            return (self.whole,)
        return tuple(dict.fromkeys(row[0] for row in self.rows or () if row is not None))


def original(backbone: Backbone, plan: Plan, names: frozenset[str]) -> dict[str, Plain]:
    """Every tensor of the backbone that a symbiotic model was made from. names: of the model's tensors."""
    places = [_places(backbone, plan, index) for index in range(len(backbone.moe_layers))]
    layer_index = {layer: index for index, layer in enumerate(backbone.moe_layers)}

    def rows(name: str, part: Part, count: int) -> tuple[Row | None, ...]:
        first = sum(backbone.pool_sizes[: part.pool])
        at = places[layer_index[part.layer]]
        found = (at.get(first + expert) for expert in range(count))
        return tuple(place and (_tensor(backbone.anatomy, part, place[0]), place[1]) for place in found)

    return _assemble(backbone, names, rows, lambda part: backbone.pool_sizes[part.pool])


def only(backbone: Backbone, groups: dict[int, GroupPlan], names: frozenset[str]) -> dict[str, Plain]:
    """Every tensor of a plain model that has only the experts of one group for each pool of the family, renumbered from 0."""

    def rows(name: str, part: Part, count: int) -> tuple[Row | None, ...]:
        group = groups[part.pool]
        return tuple((_tensor(backbone.anatomy, part, group.name), expert) for expert in range(group.size))

    return _assemble(backbone, names, rows, lambda part: groups[part.pool].size)


def missing(assembly: dict[str, Plain]) -> list[str]:
    """Names of plain tensors of which we do not have everything."""
    return [
        name for name, plain in assembly.items() if (plain.whole is None and plain.rows is None) or None in (plain.rows or ())
    ]


def _assemble(
    backbone: Backbone,
    names: frozenset[str],
    rows: Callable[[str, Part, int], tuple[Row | None, ...]],
    experts: Callable[[Part], int],
) -> dict[str, Plain]:
    assembly = {}
    for name, shape in backbone.tensors.items():
        part = backbone.part(name)
        if part.kind in ("router", "bias", "experts"):
            count = backbone.pool_sizes[part.pool]
            axis = 0 if shape[0] == count else len(shape) - 1
            kept = (*shape[:axis], experts(part), *shape[axis + 1 :])
            assembly[name] = Plain(kept, rows=rows(name, part, experts(part)), axis=axis)
        else:
            ours = BACKBONE + _shared_name(name, part, backbone.anatomy)
            assembly[name] = Plain(shape, whole=ours if ours in names else None)
    return assembly


PROMOTED = ""
"""Stands for the promoted experts where a group's name is expected; no group is called so."""


def _places(backbone: Backbone, plan: Plan, index: int) -> dict[int, tuple[str, int]]:
    """{expert: (group, its place there)} in the layer with number `index` among those that have experts."""
    places: dict[int, tuple[str, int]] = {}
    promoted = plan.promoted[index] if plan.promoted else ()
    for place, expert in enumerate(promoted):
        places[expert] = (PROMOTED, place)
    for group in plan.groups:
        if group.mounted_from is None:
            for place, expert in enumerate(group.experts[index]):
                places[expert] = (group.name, place)
    return places


def _tensor(anatomy: Anatomy, part: Part, group: str) -> str:
    """Our name of a group's router, selection bias or experts."""
    block = f"{BACKBONE}{anatomy.decoder}.layers.{part.layer}.{anatomy.block}"
    if group == PROMOTED:
        return f"{block}.promoted.{part.tail}" if part.kind == "experts" else f"{block}.promoted_router.{part.tail}"
    kind = "experts" if part.kind == "experts" else "router"
    return f"{block}.{kind}.{group}.{part.tail}"


def _shared_name(name: str, part: Part, anatomy: Anatomy) -> str:
    """Name within our backbone of a tensor that surgery leaves whole."""
    if part.kind == "shared":
        return f"{anatomy.decoder}.layers.{part.layer}.{anatomy.block}.shared_expert.{part.tail}"
    if part.kind == "shared_gate":
        return f"{anatomy.decoder}.layers.{part.layer}.{anatomy.block}.shared_expert_gate.{part.tail}"
    return name

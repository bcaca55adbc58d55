"""Every tensor of the decoder after surgery: name, shape, role, and where in the checkpoint its first value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoe_cli.families import Backbone, Part
from smoe_cli.plan.types import FIXED, GroupPlan, Origin, Tensor
from smoe_cli.recipe.backbones import Upcycle
from smoe_cli.recipe.models import Model

SPLIT = ("router", "bias", "experts")
"""Kinds of tensors that groups take rows of, in the order in which a group's tensors are listed."""


def decoder_tensors(
    model: Model, backbone: Backbone, groups: Sequence[GroupPlan], promoted: Sequence[tuple[int, ...]]
) -> Iterator[Tensor]:
    """In the order of the plain model's. promoted: per layer that has experts, or empty."""
    parts = {name: backbone.part(name) for name in backbone.tensors}
    surgeon = _Surgeon(model, backbone, parts, tuple(groups), tuple(promoted))
    done: set[int] = set()
    for name, shape in backbone.tensors.items():
        part = parts[name]
        if part.kind in SPLIT or (part.kind == "dense" and model.backbone.upcycle is not None):
            if part.layer not in done:
                done.add(part.layer)
                yield from surgeon.block(part.layer)
        elif part.kind in ("shared", "shared_gate"):
            if model.shared != "none":
                module = "shared_expert" if part.kind == "shared" else "shared_expert_gate"
                yield surgeon.tensor(f"{surgeon.prefix(part.layer)}.{module}.{part.tail}", shape, "shared", Origin((name,)))
        else:
            unused = part.kind in ("vision", "projector") and model.vision is None
            yield surgeon.tensor(f"backbone.{name}", shape, FIXED if unused else part.kind, Origin((name,)))


class _Surgeon:
    """What every layer's block is made from, looked up once."""

    def __init__(
        self,
        model: Model,
        backbone: Backbone,
        parts: dict[str, Part],
        groups: tuple[GroupPlan, ...],
        promoted: tuple[tuple[int, ...], ...],
    ):
        self.model, self.backbone, self.groups, self.promoted = model, backbone, groups, promoted
        self.number = {layer: number for number, layer in enumerate(backbone.moe_layers)}
        sizes = backbone.pool_sizes
        self.first = [sum(sizes[:pool]) for pool in range(len(sizes))]
        self.parts: dict[int, list[tuple[Part, str]]] = {}
        kinds = SPLIT if model.backbone.upcycle is None else ("dense",)
        for name, part in parts.items():
            if part.kind in kinds:
                self.parts.setdefault(part.layer, []).append((part, name))

    def prefix(self, layer: int) -> str:
        """Path of a layer's block in the built model."""
        anatomy = self.backbone.anatomy
        return f"backbone.{anatomy.decoder}.layers.{layer}.{anatomy.block}"

    def tensor(self, name: str, shape: tuple[int, ...], role: str, origin: Origin) -> Tensor:
        return Tensor(name, shape, role, None if self.model.backbone.scratch is not None else origin)

    def block(self, layer: int) -> Iterator[Tensor]:
        """Routers and experts of every group in one layer, and what is promoted out of them."""
        parts = self.parts[layer]
        if self.model.backbone.upcycle is not None:
            yield from self._upcycled(layer, {part.tail: name for part, name in parts}, self.model.backbone.upcycle)
            return
        parts = sorted(parts, key=lambda found: (SPLIT.index(found[0].kind), found[0].tail == "down_proj"))
        number = self.number[layer]
        for group in self.groups:
            rows = tuple(expert - self.first[group.pool] for expert in group.experts[number])
            for part, name in parts:
                if part.pool == group.pool:
                    target = f"{_module(part)}.{group.name}.{part.tail}"
                    yield self._rows(name, part, target, _role(part, group), rows, group)
        if self.promoted:
            for part, name in parts:
                module = "promoted_router" if part.kind == "router" else "promoted"
                yield self._rows(name, part, f"{module}.{part.tail}", "shared", self.promoted[number])

    def _rows(
        self, name: str, part: Part, target: str, role: str, rows: tuple[int, ...], group: GroupPlan | None = None
    ) -> Tensor:
        """Rows of a tensor, along the one dimension that counts experts."""
        shape = self.backbone.tensors[name]
        axis = 0 if part.kind != "bias" else len(shape) - 1
        shape = (*shape[:axis], len(rows), *shape[axis + 1 :])
        noise = group.noise if group is not None and part.kind != "bias" else 0.0
        return self.tensor(f"{self.prefix(part.layer)}.{target}", shape, role, Origin((name,), rows, axis, noise=noise))

    def _upcycled(self, layer: int, names: dict[str, str], upcycle: Upcycle) -> Iterator[Tensor]:
        """A dense feed-forward becomes copies of itself. Every copy's output is divided by their number on a token's way: the
        routed ones (whose weights sum to 1) and `shared`; so the whole is what it was."""
        gate, up, down = (names[f"{projection}.weight"] for projection in ("gate_proj", "up_proj", "down_proj"))
        width, d = self.backbone.tensors[gate]
        scale, prefix = 1 / (upcycle.shared + 1), self.prefix(layer)
        for group in self.groups:
            yield self._fresh_router(prefix, d, group)
            size, experts, noise = group.size, f"{prefix}.experts.{group.name}", group.noise
            stacked = Origin((gate, up), copies=size, noise=noise)
            yield Tensor(f"{experts}.gate_up_proj", (size, 2 * width, d), f"experts.{group.name}", stacked)
            stacked = Origin((down,), copies=size, scale=scale, noise=noise)
            yield Tensor(f"{experts}.down_proj", (size, d, width), f"experts.{group.name}", stacked)
        if upcycle.shared:
            inner, shared = upcycle.shared * width, f"{prefix}.shared_expert"
            yield Tensor(f"{shared}.gate_proj.weight", (inner, d), "shared", Origin((gate,) * upcycle.shared))
            yield Tensor(f"{shared}.up_proj.weight", (inner, d), "shared", Origin((up,) * upcycle.shared))
            joined = Origin((down,) * upcycle.shared, axis=1, scale=scale)
            yield Tensor(f"{shared}.down_proj.weight", (d, inner), "shared", joined)

    def _fresh_router(self, prefix: str, d: int, group: GroupPlan) -> Tensor:
        """A mounted group copies the rows of the first group, which are fresh."""
        origin = None
        if group.mounted_from is not None:
            model = next(other for other in self.groups if other.name == group.mounted_from)
            rows = tuple(range(model.size)) * (group.size // model.size)
            origin = Origin(rows=rows, noise=group.noise, built=f"{prefix}.router.{model.name}.weight")
        return Tensor(f"{prefix}.router.{group.name}.weight", (group.size, d), f"router.{group.name}", origin)


def _module(part: Part) -> str:
    """The module of the built block that holds a group's rows of this tensor."""
    return "experts" if part.kind == "experts" else "router"


def _role(part: Part, group: GroupPlan) -> str:
    return FIXED if part.kind == "bias" else f"{part.kind}.{group.name}"

"""Whether the parts of a backbone fit together, as far as names, shapes and the config tell."""

from __future__ import annotations

from smoe_cli.errors import UserError
from smoe_cli.families.anatomy import ANATOMIES, DENSE
from smoe_cli.families.backbone import Backbone, integer
from smoe_cli.families.layout import INCOMPLETE

_WORDS = {"router": "router", "bias": "selection bias"}


def check_names(backbone: Backbone) -> None:
    """Every tensor belongs to a part that the family has."""
    for name, part in backbone.parts.items():
        if part.kind == "unknown":
            raise UserError(
                f"`{name}` is no tensor of a `{backbone.family}`", "is it a model with another head, or one with adapters?"
            )


def check_layers(backbone: Backbone) -> None:
    """Every layer that the config counts is there, with a feed-forward or experts, and no other."""
    expected = integer(backbone.text_config, "num_hidden_layers")
    whole = {part.layer for part in backbone.parts.values()}
    fed = {part.layer for part in backbone.parts.values() if part.kind in ("experts", "dense")}
    if more := sorted(layer for layer in whole if layer >= expected):
        raise UserError(f"has a layer {more[0]}, but config.json says `num_hidden_layers: {expected}`", "correct the config")
    for layer in range(expected):
        if layer not in whole:
            raise UserError(f"lacks layer {layer} of {expected}", INCOMPLETE)
        if layer not in fed:
            raise UserError(f"layer {layer}: lacks its feed-forward or experts", INCOMPLETE)
    sparse = any(part.kind in ("router", "experts") for part in backbone.parts.values())
    if backbone.family in ANATOMIES and not sparse:
        raise UserError("has no routed experts", "use a mixture-of-experts checkpoint, or upcycle a dense one")
    if backbone.family in DENSE and sparse:
        raise UserError(f"has routed experts, which a dense `{backbone.family}` has not")


def check_experts(backbone: Backbone) -> None:
    """Every pool of every layer with experts has its router and selection bias too, and their shapes agree."""
    anatomy = backbone.anatomy
    blocks: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {}
    for name, part in backbone.parts.items():
        if part.kind in ("router", "bias", "experts"):
            block = blocks.setdefault((part.layer, part.pool), {})
            block[part.tail if part.kind == "experts" else part.kind] = backbone.tensors[name]
    expected = {"router", "gate_up_proj", "down_proj"} | ({"bias"} if anatomy.bias else set())
    sizes: dict[int, int] = {}
    for layer in sorted({layer for layer, _ in blocks}):
        for pool, path in enumerate(anatomy.pools):
            place = f"layer {layer}, {path}" if path else f"layer {layer}"
            block = blocks.get((layer, pool), {})
            if odd := sorted(set(block) ^ expected):
                has = "has an unknown tensor" if odd[0] in block else "lacks its"
                raise UserError(f"{place}: {has} {_WORDS.get(odd[0], f'experts.{odd[0]}')}", INCOMPLETE)
            count = _agree(block, backbone.hidden_size, place)
            if sizes.setdefault(pool, count) != count:
                raise UserError(f"{place}: has {count} experts, the layers before it {sizes[pool]}", INCOMPLETE)
    for key in (anatomy.num_experts, "num_local_experts"):
        if sizes and key in backbone.text_config and (says := integer(backbone.text_config, key)) != sizes[0]:
            raise UserError(f"has {sizes[0]} experts a layer, but config.json says `{key}: {says}`", INCOMPLETE)
    if sizes and backbone.top_k > min(sizes.values()):
        raise UserError(
            f"has {min(sizes.values())} experts a layer, but config.json says `{anatomy.top_k}: {backbone.top_k}`", INCOMPLETE
        )


def _agree(block: dict[str, tuple[int, ...]], width: int, place: str) -> int:
    """How many experts a block has. Raises UserError unless all its tensors have shapes for as many."""
    count, inner = block["down_proj"][0], block["down_proj"][-1]
    right = {"down_proj": (count, width, inner), "gate_up_proj": (count, 2 * inner, width), "router": (count, width)}
    for tail, shape in right.items():
        if block[tail] != shape:
            raise UserError(
                f"{place}: its {_WORDS.get(tail, f'experts.{tail}')} has shape {block[tail]}, "
                f"but for {count} experts it should be {shape}",
                INCOMPLETE,
            )
    if "bias" in block and block["bias"] not in ((count,), (1, count)):
        raise UserError(f"{place}: its selection bias has shape {block['bias']} for {count} experts", INCOMPLETE)
    return count

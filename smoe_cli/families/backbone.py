"""What the plan needs to know of a backbone: its config, and the name and shape of every tensor in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.families.anatomy import Anatomy, anatomy_of
from smoe_cli.families.layout import Layout
from smoe_cli.families.parts import Part, part_of


@dataclass(frozen=True)
class VisionGeometry:
    """How the family's own vision encoder cuts a picture."""

    patch_size: int
    """Pixels along a side of a patch."""
    merge_size: int
    """Patches along a side of the square that becomes one token."""
    temporal_patch_size: int
    """Frames of a patch; a picture is repeated to fill them."""


@dataclass(frozen=True)
class Backbone:
    """A plain decoder before surgery. JSON-able through `to_dict`, so that a model folder can hold it.

    tensors: {name in memory: shape}, experts stacked, buffers that files hold included, a tied head left out.
    config: config.json as it was found, or as transformers would write it. stacked, swap, hub: how its files hold it, see
    `Layout`. left_out: modules in its files that transformers does not build (multi-token prediction).
    """

    family: str
    config: dict[str, Any] = field(repr=False)
    tensors: dict[str, tuple[int, ...]] = field(repr=False)
    stacked: bool = False
    swap: bool = False
    hub: bool = False
    left_out: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def anatomy(self) -> Anatomy:
        """The family's entry."""
        return anatomy_of(self.family)

    @property
    def text_config(self) -> dict[str, Any]:
        """The part of the config that describes the decoder."""
        return text_config(self.config)

    @cached_property
    def layout(self) -> Layout:
        """Names in the files that this backbone was read from; made from the names in memory, without the files."""
        return self.layout_of(self.tensors)

    def layout_of(self, tensors: dict[str, tuple[int, ...]]) -> Layout:
        """The same for other tensors of the family, {name in memory: shape}, such as fewer experts."""
        return Layout.of_memory(tensors, self.anatomy, self.stacked, self.swap, self.hub)

    @cached_property
    def parts(self) -> dict[str, Part]:
        """{name: what the tensor is}."""
        return {name: part_of(name, self.anatomy) for name in self.tensors}

    def part(self, name: str) -> Part:
        """What a tensor is."""
        return self.parts[name]

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self.tensors[f"{self.anatomy.decoder}.embed_tokens.weight"][1]

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.tensors[f"{self.anatomy.decoder}.embed_tokens.weight"][0]

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return "lm_head.weight" not in self.tensors

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return 1 + max(part.layer for part in self.parts.values())

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Layers that have routed experts, in order."""
        return tuple(sorted({part.layer for part in self.parts.values() if part.kind == "router"}))

    @property
    def pool_sizes(self) -> tuple[int, ...]:
        """Routed experts of each pool of a layer; most families have one pool. () for dense models."""
        sizes = {p.pool: self.tensors[name][0] for name, p in self.parts.items() if p.kind == "experts"}
        return tuple(sizes[pool] for pool in sorted(sizes))

    @property
    def num_experts(self) -> int:
        """Routed experts of a layer, over all pools."""
        return sum(self.pool_sizes)

    @property
    def top_k(self) -> int:
        """Experts a token is sent to."""
        return integer(self.text_config, self.anatomy.top_k)

    @property
    def limits(self) -> tuple[int, int]:
        """Equal parts that the experts of a layer lie in, and how many of them a token uses; (1, 1) without such a limit."""
        keys = self.anatomy.limits
        return (1, 1) if keys is None else (integer(self.text_config, keys[0], 1), integer(self.text_config, keys[1], 1))

    @property
    def has_shared(self) -> bool:
        """Whether layers have always-on experts."""
        return any(part.kind == "shared" for part in self.parts.values())

    @property
    def image_tokens(self) -> tuple[int, int] | None:
        """Ids of the family's own tokens before and after an image; None for text families."""
        keys = self.anatomy.image_tokens
        return None if keys is None else (integer(self.config, keys[0]), integer(self.config, keys[1]))

    @property
    def image_token(self) -> int | None:
        """Id of the token in whose place a feature of an image stands; None for text families."""
        return integer(self.config, self.anatomy.image_token) if self.anatomy.multimodal else None

    @property
    def vision_geometry(self) -> VisionGeometry | None:
        """How its own vision encoder cuts a picture; None for text families."""
        if not self.anatomy.multimodal:
            return None
        vision = self.config.get("vision_config") or {}
        frames = self.anatomy.temporal_patch_size
        return VisionGeometry(
            integer(vision, self.anatomy.patch_size, least=1),
            integer(vision, self.anatomy.merge_size, least=1),
            1 if frames is None else integer(vision, frames, least=1),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return {
            "family": self.family,
            "config": self.config,
            "tensors": {name: list(shape) for name, shape in self.tensors.items()},
            "stacked": self.stacked,
            "swap": self.swap,
            "hub": self.hub,
            "left_out": list(self.left_out),
            "sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Backbone:
        """The inverse of `to_dict`. Raises ValueError, KeyError, TypeError or AttributeError on anything else."""
        tensors = {name: tuple(shape) for name, shape in data["tensors"].items()}
        backbone = cls(**{**data, "tensors": tensors, "left_out": tuple(data["left_out"])})
        if len(tensors.get(f"{backbone.anatomy.decoder}.embed_tokens.weight", ())) != 2:
            raise ValueError("the backbone has no embedding")
        return backbone


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the decoder."""
    return config.get("text_config") or config


def integer(config: dict[str, Any], key: str, least: int = 0) -> int:
    """A number of a config. Some families allow a list with one for each layer; they are equal in every published model.

    Raises UserError when the key is missing, the number is below `least`, or the layers differ.
    """
    if key not in config:
        raise UserError(f"config.json lacks `{key}`")
    value = config[key]
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(type(number) is int and number >= least for number in numbers):
        above = f" of at least {least}" if least else ""
        raise UserError(f"config.json: `{key}` should be a whole number{above}, found {value!r}")
    if len(set(numbers)) > 1:
        raise UserError(f"config.json: `{key}` differs by layer: {value}", "only models whose layers agree are supported")
    return numbers[0]

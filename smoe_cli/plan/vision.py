"""The vision encoder: what the plan has to know of it, whether it is fresh, of a checkpoint, or the backbone's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from smoe_cli.families import Backbone
from smoe_cli.families.backbone import integer
from smoe_cli.plan.encoder import VisionFacts, extra_tokens, layer_count, layer_of
from smoe_cli.plan.source import Source
from smoe_cli.recipe.models import FreshVision, Model, OwnVision, PretrainedVision
from smoe_cli.recipe.sizes import patches

Named = tuple[str, tuple[int, ...]]

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Sight:
    """What the model sees with.

    tokens: `vit` tokens per image. patches: positions of the encoder per image, without `class_tokens`, which never reach the
    decoder. stem, layer_weights, projected: weights that a patch of pixels, a position and a token pass (a convolution over
    patches is one matrix product for each). tensors: of a `vision.*` module; a backbone's own encoder, which has `projector`
    None, is among the backbone's tensors.
    """

    tokens: int
    patches: int
    class_tokens: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    stem: int
    layer_weights: int
    projected: int
    projector: str | None
    tensors: dict[str, tuple[int, ...]] = field(repr=False, default_factory=dict)


def sight_of(model: Model, source: Source) -> Sight | None:
    """None for a model without `vision`."""
    match model.vision:
        case FreshVision():
            return fresh_sight(model.vision, source.backbone.hidden_size)
        case OwnVision():
            return own_sight(model.vision, source.backbone)
        case PretrainedVision():
            assert source.vision is not None
            return pretrained_sight(model.vision, source.vision, source.backbone.hidden_size)
    return None


def fresh_sight(vision: FreshVision, d: int) -> Sight:
    """An encoder with fresh weights and its projector into a backbone of width `d`: names and shapes as the family's module in
    transformers has them (without a pooling head)."""
    positions = patches(vision.image_size, vision.patch_size)
    tensors = dict(FAMILIES[vision.family](vision))
    return Sight(
        tokens=positions,
        patches=positions,
        class_tokens=1 if vision.family == "vit" else 0,
        hidden_size=vision.hidden_size,
        intermediate_size=vision.intermediate_size,
        layers=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        stem=vision.hidden_size * IMAGE_CHANNELS * math.prod(vision.patch_size),
        layer_weights=_matrices(shape for name, shape in tensors.items() if ".layers." in f".{name}"),
        projected=_projected(vision.hidden_size, d, vision.projector),
        projector=vision.projector,
        tensors=tensors,
    )


def own_sight(vision: OwnVision, backbone: Backbone) -> Sight:
    """The encoder of a multimodal backbone, whose tokens are squares of patches. `image_size` is a whole number of them."""
    geometry = backbone.vision_geometry
    assert geometry is not None
    width, depth, heads = encoder_sizes(backbone)
    side = geometry.patch_size * geometry.merge_size
    own = {name: shape for name, shape in backbone.tensors.items() if backbone.part(name).kind == "vision"}
    layers = {name: shape for name, shape in own.items() if ".blocks." in name}
    return Sight(
        tokens=patches(vision.image_size, (side, side)),
        patches=patches(vision.image_size, (geometry.patch_size, geometry.patch_size)),
        class_tokens=0,
        hidden_size=width,
        intermediate_size=max(shape[0] for name, shape in layers.items() if ".mlp." in name),
        layers=depth,
        heads=heads,
        stem=_matrices(shape for name, shape in own.items() if ".patch_embed." in name),
        layer_weights=_matrices(layers.values()),
        projected=_matrices(shape for name, shape in backbone.tensors.items() if backbone.part(name).kind == "projector"),
        projector=None,
    )


def encoder_sizes(backbone: Backbone) -> tuple[int, int, int]:
    """Width, layers and heads of a multimodal backbone's encoder. Raises UserError when its config does not say."""
    config = backbone.config.get("vision_config") or {}
    width, depth, heads = (integer(config, key, least=1) for key in ("hidden_size", "depth", "num_heads"))
    return width, depth, heads


def pretrained_sight(vision: PretrainedVision, facts: VisionFacts, d: int) -> Sight:
    """The encoder of a checkpoint, on pictures of the size that it was trained on, and its projector."""
    config, layers = facts.config, {name: shape for name, shape in facts.tensors.items() if layer_of(name) is not None}
    image, patch = pair(config["image_size"]), pair(config["patch_size"])
    h = int(config["hidden_size"])
    return Sight(
        tokens=patches(image, patch),
        patches=patches(image, patch),
        class_tokens=extra_tokens(facts.tensors),
        hidden_size=h,
        intermediate_size=max(shape[0] for shape in layers.values()),
        layers=layer_count(facts.tensors),
        heads=int(config.get("num_attention_heads", max(1, h // 64))),
        stem=h * IMAGE_CHANNELS * math.prod(patch),
        layer_weights=_matrices(layers.values()),
        projected=_projected(h, d, vision.projector),
        projector=vision.projector,
        tensors=facts.tensors,
    )


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """[height, width] from a config's number or list."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _projected(h: int, d: int, projector: str) -> int:
    return d * h + (d * d if projector == "mlp" else 0)


def _matrices(shapes: Iterable[tuple[int, ...]]) -> int:
    """Weights of matrices and convolutions."""
    return sum(math.prod(shape) for shape in shapes if len(shape) > 1)


def _vit(v: FreshVision) -> Iterator[Named]:
    """`ViTModel(config, add_pooling_layer=False)`"""
    h = v.hidden_size
    yield "embeddings.cls_token", (1, 1, h)
    yield "embeddings.position_embeddings", (1, patches(v.image_size, v.patch_size) + 1, h)
    yield from _linear("embeddings.patch_embeddings.projection", (h, IMAGE_CHANNELS, *v.patch_size))
    for i in range(v.num_hidden_layers):
        yield from _layer(v, f"layers.{i}", "attention", "o_proj", ("layernorm_before", "layernorm_after"))
    yield from _norm("layernorm", h)


def _siglip(v: FreshVision) -> Iterator[Named]:
    """`SiglipVisionModel(config)` with `config.vision_use_head = False`"""
    h = v.hidden_size
    yield from _linear("embeddings.patch_embedding", (h, IMAGE_CHANNELS, *v.patch_size))
    yield "embeddings.position_embedding.weight", (patches(v.image_size, v.patch_size), h)
    for i in range(v.num_hidden_layers):
        yield from _layer(v, f"encoder.layers.{i}", "self_attn", "out_proj", ("layer_norm1", "layer_norm2"))
    yield from _norm("post_layernorm", h)


FAMILIES: dict[str, Callable[[FreshVision], Iterator[Named]]] = {"vit": _vit, "siglip_vision_model": _siglip}


def _layer(v: FreshVision, prefix: str, attention: str, output: str, norms: tuple[str, str]) -> Iterator[Named]:
    h, f = v.hidden_size, v.intermediate_size
    for projection in ("q_proj", "k_proj", "v_proj", output):
        yield from _linear(f"{prefix}.{attention}.{projection}", (h, h))
    for norm in norms:
        yield from _norm(f"{prefix}.{norm}", h)
    yield from _linear(f"{prefix}.mlp.fc1", (f, h))
    yield from _linear(f"{prefix}.mlp.fc2", (h, f))


def _linear(name: str, shape: tuple[int, ...]) -> Iterator[Named]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _norm(name: str, width: int) -> Iterator[Named]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)

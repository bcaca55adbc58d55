"""Parameters of the vision encoders of transformers, as data: one entry a family."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from smoe_cli.recipe.models import Vision
from smoe_cli.recipe.sizes import patches

Named = tuple[str, tuple[int, ...]]

IMAGE_CHANNELS = 3


def vision_tensors(vision: Vision) -> Iterator[Named]:
    """Names and shapes of the encoder's parameters, as its transformers module names them (without a pooling head)."""
    return FAMILIES[vision.family](vision)


def class_tokens(vision: Vision) -> int:
    """Tokens that the encoder carries besides the patches, and that never reach the decoder."""
    return 1 if vision.family == "vit" else 0


def _vit(v: Vision) -> Iterator[Named]:
    """`ViTModel(config, add_pooling_layer=False)`"""
    h = v.hidden_size
    yield "embeddings.cls_token", (1, 1, h)
    yield "embeddings.position_embeddings", (1, patches(v.image_size, v.patch_size) + 1, h)
    yield from _linear("embeddings.patch_embeddings.projection", (h, IMAGE_CHANNELS, *v.patch_size))
    for i in range(v.num_hidden_layers):
        yield from _layer(v, f"layers.{i}", "attention", "o_proj", ("layernorm_before", "layernorm_after"))
    yield from _norm("layernorm", h)


def _siglip(v: Vision) -> Iterator[Named]:
    """`SiglipVisionModel(config)` with `config.vision_use_head = False`"""
    h = v.hidden_size
    yield from _linear("embeddings.patch_embedding", (h, IMAGE_CHANNELS, *v.patch_size))
    yield "embeddings.position_embedding.weight", (patches(v.image_size, v.patch_size), h)
    for i in range(v.num_hidden_layers):
        yield from _layer(v, f"encoder.layers.{i}", "self_attn", "out_proj", ("layer_norm1", "layer_norm2"))
    yield from _norm("post_layernorm", h)


FAMILIES: dict[str, Callable[[Vision], Iterator[Named]]] = {"vit": _vit, "siglip_vision_model": _siglip}


def _layer(v: Vision, prefix: str, attention: str, output: str, norms: tuple[str, str]) -> Iterator[Named]:
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

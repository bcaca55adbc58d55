"""Name, shape, role and origin of every tensor of the built model, worked out without building it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoe_cli.families import Backbone
from smoe_cli.plan.decoder import decoder_tensors
from smoe_cli.plan.types import GroupPlan, Tensor
from smoe_cli.plan.vision import Sight
from smoe_cli.recipe.models import Latents, Model
from smoe_cli.recipe.sizes import patches

TIME_FEATURES = 256
"""Width of the sinusoidal features of a timestep, before the latent interface's MLP."""

LATENT_CHANNELS = 3
"""Channels of the `pixels` codec's latents."""


def model_tensors(
    model: Model,
    backbone: Backbone,
    sight: Sight | None,
    groups: Sequence[GroupPlan],
    promoted: Sequence[tuple[int, ...]],
) -> tuple[Tensor, ...]:
    """Every tensor of the built model, each once (a tied output head is the embedding)."""
    d = backbone.hidden_size
    return (*decoder_tensors(model, backbone, groups, promoted), *_vision(sight, d), *_latents(model.latents, d))


def vae_tokens(latents: Latents | None) -> int:
    """`vae` tokens per image: one a patch; 0 without a latent interface."""
    return patches(latents.image_size, latents.patch_size) if latents else 0


def latent_dim(latents: Latents | None) -> int:
    """Values of one `vae` token; 0 without a latent interface."""
    return LATENT_CHANNELS * latents.patch_size[0] * latents.patch_size[1] if latents else 0


def _vision(sight: Sight | None, d: int) -> Iterator[Tensor]:
    if sight is None or sight.projector is None:  # a backbone's own encoder is among its tensors
        return
    for name, shape in sight.tensors.items():
        yield Tensor(f"vision.{name}", shape, "vision")
    yield Tensor("projector.0.weight", (d, sight.hidden_size), "projector")
    yield Tensor("projector.0.bias", (d,), "projector")
    if sight.projector == "mlp":
        yield Tensor("projector.2.weight", (d, d), "projector")
        yield Tensor("projector.2.bias", (d,), "projector")


def _latents(latents: Latents | None, d: int) -> Iterator[Tensor]:
    if latents is None:
        return
    values = latent_dim(latents)
    for name, shape in (("proj_in", (d, values)), ("time.0", (d, TIME_FEATURES)), ("time.2", (d, d))):
        yield Tensor(f"latents.{name}.weight", shape, "latents")
        yield Tensor(f"latents.{name}.bias", (d,), "latents")
    yield Tensor("latents.norm.weight", (d,), "latents")
    yield Tensor("latents.proj_out.weight", (values, d), "latents")
    yield Tensor("latents.proj_out.bias", (values,), "latents")

"""What a model has besides its backbone: a vision encoder, its projector, the latent interface."""

from __future__ import annotations

from torch import nn

from smoe_cli.model.backbone import backbone_config
from smoe_cli.model.latents import LatentInterface
from smoe_cli.model.vision import build_projector, build_vision
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import OwnVision, Recipe


def attachments(recipe: Recipe, plan: Plan) -> dict[str, nn.Module]:
    """Those that the model has, with fresh weights from the global random state, in the order in which they draw them."""
    spec, found = recipe.model, dict[str, nn.Module]()
    config = backbone_config(plan.source.backbone.config).get_text_config()
    width = config.hidden_size
    if spec.vision is not None and not isinstance(spec.vision, OwnVision):
        vision = build_vision(spec.vision, plan, recipe.training.attention)
        found["vision"] = vision
        found["projector"] = build_projector(spec.vision.projector, vision.config.hidden_size, width)
    if spec.latents is not None:
        found["latents"] = LatentInterface(spec.latents, width, config.rms_norm_eps)
    return found

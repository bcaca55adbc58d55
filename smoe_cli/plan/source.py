"""What the plan is compiled from besides the recipe: the backbone's config and tensor names, the vision encoder's, the profile.

Reading it is the only part of planning that touches files; a model folder carries it along, so that it can be opened without
the checkpoint and the profile that it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from smoe_cli.errors import UserError
from smoe_cli.families import Backbone, open_checkpoint, read_backbone
from smoe_cli.families.checkpoint import read_json
from smoe_cli.families.locate import locate
from smoe_cli.plan.encoder import VisionFacts, read_encoder
from smoe_cli.plan.errors import PlanError
from smoe_cli.plan.profile import Profile, read_profile
from smoe_cli.plan.scratch import scratch_backbone
from smoe_cli.plan.vocabulary import check_vocabulary
from smoe_cli.recipe import Problem
from smoe_cli.recipe.models import OwnVision, PretrainedVision, Recipe
from smoe_cli.recipe.tree import Path

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """JSON-able through `to_dict`. vision: of a pretrained encoder. preprocessor: preprocessor_config.json beside the encoder
    that the model sees with, a pretrained or the backbone's own one; None if there is no such file."""

    backbone: Backbone
    vision: VisionFacts | None = None
    profile: Profile | None = None
    preprocessor: dict[str, Any] | None = None

    @classmethod
    def read(cls, recipe: Recipe) -> Source:
        """From the files that the recipe names; only headers of checkpoints are read.

        Raises PlanError with everything that is wrong with them, each at the key that names the file.
        """
        problems: list[Problem] = []
        backbone = _at(problems, backbone_path(recipe), lambda: _backbone(recipe))
        vision = _at(problems, ("model", "vision", "path"), lambda: _vision(recipe))
        profile = _at(problems, ("model", "profile"), lambda: _profile(recipe))
        if problems or backbone is None:
            raise PlanError(problems)
        preprocessor = _at(problems, ("model", "vision"), lambda: _preprocessor(recipe))
        if problems:
            raise PlanError(problems)
        return cls(backbone, vision, profile, preprocessor)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        vision = self.vision and {**asdict(self.vision), "tensors": {n: list(s) for n, s in self.vision.tensors.items()}}
        return {
            "backbone": self.backbone.to_dict(),
            "vision": vision,
            "profile": self.profile.to_dict() if self.profile else None,
            "preprocessor": self.preprocessor,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Source:
        """The inverse of `to_dict`."""
        vision, profile = data["vision"], data["profile"]
        return cls(
            backbone=Backbone.from_dict(data["backbone"]),
            vision=vision and VisionFacts(**{**vision, "tensors": {n: tuple(s) for n, s in vision["tensors"].items()}}),
            profile=Profile.from_dict(profile) if profile else None,
            preprocessor=data["preprocessor"],
        )


def _at(problems: list[Problem], path: Path, read: Callable[[], T]) -> T | None:
    """What `read` returns, or None and a problem at `path`."""
    try:
        return read()
    except UserError as error:
        problems.append(Problem(path, error.message, error.help))
        return None


def backbone_path(recipe: Recipe) -> Path:
    """The key that names the backbone's checkpoint."""
    way = ("upcycle", "from") if recipe.model.backbone.upcycle is not None else ("pretrained", "path")
    return ("model", "backbone", *way)


def _backbone(recipe: Recipe) -> Backbone:
    location = recipe.model.backbone.checkpoint
    if location is None:
        return scratch_backbone(recipe)
    checkpoint = open_checkpoint(*location)
    read = read_backbone(checkpoint)
    if recipe.model.tokenizer is None:
        check_vocabulary(checkpoint.folder)
    return read


def _vision(recipe: Recipe) -> VisionFacts | None:
    vision = recipe.model.vision
    return read_encoder(vision.path, vision.revision) if isinstance(vision, PretrainedVision) else None


def _profile(recipe: Recipe) -> Profile | None:
    return read_profile(recipe.model.profile) if recipe.model.profile is not None else None


def _preprocessor(recipe: Recipe) -> dict[str, Any] | None:
    """Settings of the image processor in the folder that the encoder comes from, where transformers looks for them."""
    match recipe.model.vision:
        case PretrainedVision(path=path, revision=revision):
            folder = locate(path, revision)
        case OwnVision() if recipe.model.backbone.pretrained is not None:
            folder = locate(recipe.model.backbone.pretrained.path, recipe.model.backbone.pretrained.revision)
        case _:
            return None
    whole, own = folder / "processor_config.json", folder / "preprocessor_config.json"
    if whole.is_file():
        nested = read_json(whole, "copy the file again").get("image_processor")
        if isinstance(nested, dict):
            return nested
    return read_json(own, "copy the file again") if own.is_file() else None

"""Checkpoints, recipes and model folders for the tests of this folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from smoe_cli.convert.options import Options
from smoe_cli.convert.symbiotic import to_symbiotic
from smoe_cli.families import ANATOMIES, open_checkpoint, read_backbone
from smoe_cli.plan.profile import Profile
from tests.families.tiny import write_checkpoint
from tests.helpers import TINY

SPLIT = [
    {"name": "understanding", "modalities": ["text", "vit"], "experts": 5, "select": [0, 2, 3, 5, 7]},
    {"name": "generation", "modalities": ["vae"], "experts": 3, "select": "rest"},
]
HALVES = [
    {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": [4, 5, 6, 7]},
    {"name": "generation", "modalities": ["vae"], "experts": 4, "select": "rest"},
]
"""Whole parts, as the expert-group limits of the DeepSeek sample ask for."""
POOLS = [
    {"name": "text", "modalities": ["text"], "experts": 8, "select": list(range(8))},
    {"name": "vit", "modalities": ["vit"], "experts": 6, "select": [8, 10, 11, 12, 13, 15]},
    {"name": "vae", "modalities": ["vae"], "experts": 2, "select": "rest"},
]
"""Two pools of 8 experts (ERNIE), the second one split."""


def recipe_data(family: str, checkpoint: Path, **changes: Any) -> dict[str, Any]:
    """A recipe for a checkpoint of tests/families, as plain data. changes: dotted paths; None removes a key."""
    data = copy.deepcopy(TINY)
    anatomy = ANATOMIES[family]
    data["name"] = "converted"
    groups = {"deepseek_v3": HALVES, "ernie4_5_vl_moe": POOLS}.get(family, SPLIT)
    vision = {"family": "own", "image_size": [32, 32]} if anatomy.multimodal else TINY["model"]["vision"]
    data["model"] = {
        "backbone": {"pretrained": {"path": str(checkpoint)}},
        "groups": copy.deepcopy(groups),
        "vision": vision,
        "latents": TINY["model"]["latents"],
    }
    for phase in data["phases"]:
        phase["freeze"], phase["learning_rate"] = [], {"default": 1e-3}
    if anatomy.shared is None:
        data["model"]["shared"] = "none"
        for phase in data["phases"]:
            phase.pop("shields", None)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = data
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if value is None:
            node.pop(last)
        else:
            node[last] = value
    return data


def write_recipe(path: Path, family: str, checkpoint: Path, **changes: Any) -> Path:
    """The same, as a file."""
    path.write_text(yaml.safe_dump(recipe_data(family, checkpoint, **changes), sort_keys=False), encoding="utf-8")
    return path


def convert(
    folder: Path, family: str, options: Options | None = None, shards: str = "50GB", **changes: Any
) -> tuple[Path, Path]:
    """(checkpoint, its symbiotic form), both within `folder`."""
    checkpoint = write_checkpoint(family, folder / "checkpoint", shards=shards)
    recipe = write_recipe(folder / "recipe.yaml", family, checkpoint, **changes)
    to_symbiotic(recipe, folder / "symbiotic", options or Options())
    return checkpoint, folder / "symbiotic"


def detached(model: Any) -> Any:
    """In evaluation mode, with weights off the mapping of their file: rounding depends on the address."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone()
    return model.eval()


def some_ids(rows: int = 2, length: int = 11, seed: int = 0) -> torch.Tensor:
    """(rows, length) ids of bytes."""
    return torch.randint(5, 200, (rows, length), generator=torch.Generator().manual_seed(seed))


def write_profile(path: Path, checkpoint: Path) -> Path:
    """A made-up profile of a checkpoint: in layer i expert e was used (5·e + 3·i) mod (number of experts) times."""
    backbone = read_backbone(open_checkpoint(str(checkpoint)))
    experts = backbone.num_experts
    counts = tuple(tuple((5 * e + 3 * i) % experts for e in range(experts)) for i in range(len(backbone.moe_layers)))
    profile = Profile(
        family=backbone.family,
        sha256=backbone.sha256,
        layers=backbone.moe_layers,
        experts=experts,
        top_k=backbone.top_k,
        tokens={"text": sum(counts[0]) // backbone.top_k},
        counts={"text": counts},
        mass={"text": tuple(tuple(float(n) for n in row) for row in counts)},
    )
    path.write_text(json.dumps(profile.to_dict()), encoding="utf-8")
    return path

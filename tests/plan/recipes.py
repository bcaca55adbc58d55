"""Small recipes for the tests of this folder."""

from __future__ import annotations

import copy
from typing import Any

from smoe_cli.recipe.models import Recipe

SMALL: dict[str, Any] = {
    "kind": "smoe/recipe",
    "version": 1,
    "name": "small",
    "seed": 3,
    "model": {
        "backbone": {
            "scratch": {
                "family": "qwen2_moe",
                "hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 6,
            }
        },
        "groups": [
            {"name": "understanding", "modalities": ["text", "vit"], "experts": 6, "select": "first"},
            {"name": "generation", "modalities": ["vae"], "experts": 2},
        ],
        "shared": {"count": 2, "intermediate_size": 5},
        "vision": {
            "family": "vit",
            "image_size": [8, 12],
            "patch_size": [4, 2],
            "hidden_size": 8,
            "intermediate_size": 10,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        "latents": {"codec": {"kind": "pixels"}, "image_size": [8, 8], "patch_size": [4, 2]},
    },
    "data": {
        "sequence_length": 32,
        "sources": {
            "docs": {"kind": "python-docs", "task": "lm"},
            "read": {"kind": "rendered-text", "task": "mmu", "image_size": [8, 12]},
            "draw": {"kind": "rendered-text", "task": "t2i", "image_size": [8, 8]},
        },
    },
    "phases": [
        {
            "name": "warm",
            "steps": 20,
            "tokens_per_step": 128,
            "accumulate": 2,
            "mixture": {"docs": 1, "read": 1, "draw": 2},
            "learning_rate": {"experts.generation": 1e-2, "default": 1e-3},
            "warmup": 4,
            "freeze": ["vision"],
            "shields": [{"module": "shared", "modalities": ["vae"], "factor": {0: 0.0, 10: 0.1}}],
        },
        {
            "name": "joint",
            "steps": 30,
            "tokens_per_step": 64,
            "mixture": {"docs": 1, "draw": 1},
            "learning_rate": {"*.generation": 1e-2, "default": 1e-4},
            "decay": {"kind": "cosine", "floor": 0.1},
        },
    ],
    "training": {"experts": "eager"},  # widths this small are not for the grouped kernel
}


def recipe(**changes: Any) -> Recipe:
    """SMALL with changes: `recipe(**{"model.shared.count": 1})`; a list index is a number, None removes the key."""
    raw = copy.deepcopy(SMALL)
    for dotted, value in changes.items():
        node: Any = raw
        *parents, last = [int(part) if part.isdigit() else part for part in dotted.split(".")]
        for part in parents:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return Recipe.model_validate(raw)


SIGLIP = {
    "model.vision.family": "siglip_vision_model",
    "model.vision.image_size": [8, 8],
    "model.vision.patch_size": [2, 2],
    "data.sources.read.image_size": [8, 8],
}

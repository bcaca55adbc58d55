"""Recipes, documents and batches of models that see and draw, around the small checkpoints of `tests.families.tiny`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from smoe_cli.data.batch import Batch, RowBuilder, collate
from smoe_cli.data.documents import Document, DocumentBuilder
from smoe_cli.data.special import tokenizer_of
from smoe_cli.model.build import build_model
from smoe_cli.model.model import SymbioticModel
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.models import Recipe
from tests.families.tiny import MULTIMODAL_FAMILIES
from tests.model.pretrained import pretrained

HEIGHT, WIDTH = 32, 48
"""Of an image to understand: 2 × 3 tokens of 16 × 16 pixels."""
OWN = {"family": "own", "image_size": [HEIGHT, WIDTH]}
FRESH = {
    "family": "vit",
    "image_size": [HEIGHT, WIDTH],
    "patch_size": [16, 16],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
LATENTS = {"codec": {"kind": "pixels"}, "image_size": [8, 12], "patch_size": [4, 4]}
"""2 × 3 tokens."""
ERNIE = "ernie4_5_vl_moe"
POOLS = [
    {"name": "text", "modalities": ["text"], "experts": 8, "select": list(range(8))},
    {"name": "sight", "modalities": ["vit", "vae"], "experts": 8},
]
"""ERNIE as it is: its two pools of experts, one for each modality."""
READ = {"kind": "rendered-text", "task": "mmu", "image_size": [HEIGHT, WIDTH], "length": [1, 2], "question": "?"}
DRAW = {"kind": "rendered-text", "task": "t2i", "image_size": [8, 12], "length": [1, 2]}


def seeing(folder: Path, family: str, **changes: Any) -> Recipe:
    """A recipe that sees (with the backbone's own encoder if it has one) and draws. One group holds every expert; ERNIE's are
    its own two."""
    changes = {
        "model.vision": OWN if family in MULTIMODAL_FAMILIES else FRESH,
        "model.latents": LATENTS,
        "data.sources": {"prose": {"kind": "python-docs", "task": "lm"}, "read": READ, "draw": DRAW},
        **changes,
    }
    recipe = pretrained(folder, POOLS if family == ERNIE else None, **changes)
    phase = recipe.phases[0].model_copy(update={"mixture": {"prose": 1, "read": 4, "draw": 4}})
    return recipe.model_copy(update={"phases": (phase,)})


def built(recipe: Recipe) -> tuple[SymbioticModel, DocumentBuilder]:
    """The model with the checkpoint's weights, its fresh parts excited so that nothing is hidden by zeros, and its builder."""
    plan = compile_plan(recipe)
    model = build_model(recipe, plan)
    if model.latents is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.nn.init.normal_(model.latents.proj_out.weight, std=0.05)
    return model, DocumentBuilder(recipe, plan, tokenizer_of(recipe, plan))


def picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Noise, (width, height)."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def rows_of(builder: DocumentBuilder, rows: Sequence[Sequence[Document]], length: int | None = None) -> Batch:
    """Documents packed into rows of equal length."""
    packed = []
    for documents in rows:
        row = RowBuilder(length or sum(map(len, documents)), builder.special.pad)
        for document in documents:
            row.add(document, 0)
        packed.append(row.row())
    return collate(packed, builder)


def noise(builder: DocumentBuilder, seed: int) -> np.ndarray:
    """For an image to draw."""
    return np.random.default_rng(seed).standard_normal((builder.vae_tokens, builder.latent_dim), np.float32)


def family_pixels(family: str, images: Sequence[Image.Image], **settings: Any) -> dict[str, Tensor]:
    """pixel_values and image_grid_thw by the family's own image processor (its variant without torchvision)."""
    name = {"glm4v_moe": "glm4v", ERNIE: ERNIE}.get(family, "qwen2_vl")
    cls = {"glm4v": "Glm4vImageProcessorPil", ERNIE: "Ernie4_5_VLMoeImageProcessorPil", "qwen2_vl": "Qwen2VLImageProcessorPil"}
    import importlib

    module = importlib.import_module(f"transformers.models.{name}.image_processing_pil_{name}")
    processor = getattr(module, cls[name])(patch_size=8, size={"shortest_edge": 1, "longest_edge": 10**6}, **settings)
    return dict(processor(list(images), return_tensors="pt"))

"""Small recipes and batches shared by the tests."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from smoe_cli.plan import Plan, compile_plan
from smoe_cli.recipe.models import Recipe

TINY: dict[str, Any] = {
    "kind": "smoe/recipe",
    "version": 1,
    "name": "tiny",
    "model": {
        "backbone": {
            "scratch": {
                "family": "qwen2_moe",
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "num_experts": 6,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 16,
                "initializer_range": 0.2,
            }
        },
        "groups": [
            {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": [0, 2, 3, 5]},
            {"name": "generation", "modalities": ["vae"], "experts": 2, "select": "rest"},
        ],
        "shared": {"intermediate_size": 24},
        "vision": {
            "family": "vit",
            "image_size": [8, 16],
            "patch_size": [8, 4],
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        "latents": {"codec": {"kind": "pixels"}, "image_size": [8, 16], "patch_size": [8, 4]},
    },
    "data": {
        "sequence_length": 64,
        "sources": {
            "prose": {"kind": "python-docs", "task": "lm"},
            "read": {"kind": "rendered-text", "task": "mmu", "image_size": [8, 16], "length": [1, 2], "question": ""},
            "draw": {"kind": "rendered-text", "task": "t2i", "image_size": [8, 16], "length": [1, 2]},
        },
    },
    "phases": [
        {
            "name": "understanding",
            "steps": 4,
            "tokens_per_step": 256,
            "mixture": {"prose": 1, "read": 12},
            "learning_rate": {"default": 1e-3},
            "freeze": ["experts.generation", "router.generation", "latents"],
        },
        {
            "name": "joint",
            "steps": 4,
            "tokens_per_step": 256,
            "mixture": {"prose": 1, "read": 6, "draw": 8},
            "learning_rate": {"default": 1e-4, "experts.generation": 1e-3, "router.generation": 1e-3, "latents": 1e-3},
            "warmup": 1,
            "shields": [{"module": "shared", "modalities": ["vae"], "factor": {0: 0.0, 2: 0.1}}],
        },
    ],
    "training": {"log_every": 2, "checkpoints": {"every": 2}},
}


def tiny(**changes: Any) -> Recipe:
    """The tiny recipe with dotted-path changes: tiny(**{"model.groups": […]})."""
    return Recipe.model_validate(tiny_data(**changes))


def tiny_data(**changes: Any) -> dict[str, Any]:
    """The same, as a plain tree."""
    data = copy.deepcopy(TINY)
    for path, value in copy.deepcopy(changes).items():
        *parents, last = path.split(".")
        node: Any = data
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    return data


ONE_GROUP = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 6}]


def one_group(**changes: Any) -> Recipe:
    """The standard MoE: one group holds every expert and serves every modality."""
    shared = tiny().model_dump(mode="json")["phases"]
    for phase in shared:
        phase["freeze"] = []
        phase["learning_rate"] = {"default": 1e-3}
    return tiny(**{"model.groups": ONE_GROUP, "phases": shared, **changes})


def random_batch(recipe: Recipe, plan: Plan | None = None, rows: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """A packed batch by hand. Each row: a text document, a reading document, a drawing document, padding."""
    plan = plan or compile_plan(recipe)
    g = torch.Generator().manual_seed(seed)
    n_vit, n_vae = plan.vit_tokens, plan.vae_tokens
    length = recipe.data.sequence_length
    fields: dict[str, list[list[int]]] = {
        k: [] for k in ("input_ids", "targets", "modality", "document", "image", "position_ids", "source")
    }
    for _ in range(rows):
        row: dict[str, list[int]] = {k: [] for k in fields}

        def put(
            ids: list[int], modality: int, document: int, image: int, source: int, learn: bool, row: dict[str, list[int]] = row
        ) -> None:
            start = sum(d == document for d in row["document"])
            row["input_ids"] += ids
            row["modality"] += [modality] * len(ids)
            row["document"] += [document] * len(ids)
            row["image"] += [image] * len(ids)
            row["position_ids"] += [start] * len(ids) if image >= 0 else list(range(start, start + len(ids)))
            row["source"] += [source] * len(ids)
            row["targets"] += [torch.randint(5, 261, (1,), generator=g).item() if learn else -100 for _ in ids]

        def words(n: int) -> list[int]:
            return torch.randint(5, 261, (n,), generator=g).tolist()

        put(words(11), 0, 0, -1, 0, True)
        put([1, 3], 0, 1, -1, 1, False)
        put([0] * n_vit, 1, 1, 0, 1, False)
        put([4, *words(3)], 0, 1, -1, 1, True)
        put([1, *words(4), 3], 0, 2, -1, 2, False)
        put([0] * n_vae, 2, 2, 1, 2, False)
        put([4], 0, 2, -1, 2, False)
        pad = length - len(row["input_ids"])
        for key, fill in (
            ("input_ids", 0),
            ("targets", -100),
            ("modality", 0),
            ("document", -1),
            ("image", -1),
            ("position_ids", 0),
            ("source", -1),
        ):
            fields[key].append(row[key] + [fill] * pad)
    batch = {k: torch.tensor(v) for k, v in fields.items()}
    batch["position_ids"] = batch["position_ids"].unsqueeze(-1).repeat(1, 1, 3)
    assert recipe.model.vision is not None
    assert recipe.model.latents is not None
    batch["vit_pixels"] = torch.rand(rows, 3, *recipe.model.vision.image_size, generator=g) * 2 - 1
    batch["vae_pixels"] = torch.rand(rows, 3, *recipe.model.latents.image_size, generator=g) * 2 - 1
    batch["timestep"] = torch.rand(rows, generator=g)
    batch["noise"] = torch.randn(rows, n_vae, plan.latent_dim, generator=g)
    batch["vae_source"] = torch.full((rows,), 2)
    return batch

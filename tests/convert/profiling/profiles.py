"""A slow, obvious replay of routers, and data to count over."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from smoe_cli.convert.profiling.counting import Settings
from smoe_cli.convert.profiling.plain import PlainCounter, Tokens
from smoe_cli.data.sample import Sample
from smoe_cli.families import Backbone
from smoe_cli.recipe.nodes import MODALITIES, VIT

WORDS = ("the", "router", "of", "a", "layer", "sends", "every", "token", "to", "some", "experts")


def texts(n: int, seed: int = 0) -> list[str]:
    """Sentences of very different lengths."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(n)]


def picture(seed: int) -> Image.Image:
    """Noise of a random size."""
    draw = np.random.default_rng(seed)
    height, width = draw.integers(20, 60, 2)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def samples(n: int, images: bool) -> list[Sample]:
    """Texts; every other one about an image, if asked for."""
    return [
        Sample("mmu", text=text, question="what?" if i % 4 else "", image=picture(i))
        if images and i % 2
        else Sample("lm", text)
        for i, text in enumerate(texts(n))
    ]


def write_texts(path: Path, n: int, seed: int = 0) -> Path:
    """A .jsonl file with a column `text`."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(n, seed)), encoding="utf-8")
    return path


def write_pictures(folder: Path, n: int) -> Path:
    """A .jsonl file with columns image, question, answer; the images beside it."""
    folder.mkdir(parents=True)
    rows = []
    for i, text in enumerate(texts(n)):
        picture(i).save(folder / f"{i}.png")
        rows.append({"image": f"{i}.png", "question": "what?", "answer": text})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def counter(folder: Path, **settings: Any) -> PlainCounter:
    """A loaded checkpoint that counts."""
    return PlainCounter(str(folder), Settings(**settings)).load()


def replay(model: Any, backbone: Backbone, document: Tokens) -> tuple[list[list[list[int]]], list[list[list[float]]]]:
    """(counts, mass), each [layer][modality][expert], of one document, by hand: what enters each block is recorded, and every
    token is routed by the family's rule in plain Python."""
    anatomy, text = backbone.anatomy, backbone.text_config
    inputs: dict[int, torch.Tensor] = {}
    layers = model.get_submodule(anatomy.decoder).layers
    hooks = [
        getattr(layers[i], anatomy.block).register_forward_pre_hook(lambda _, args, i=i: inputs.__setitem__(i, args[0][0]))
        for i in backbone.moe_layers
    ]
    more: dict[str, Any] = {}
    if document.patches is not None:
        features = (torch.tensor([document.ids]) == backbone.config["image_token_id"]).int()
        more = {"pixel_values": document.patches.values, "image_grid_thw": document.patches.grid, "mm_token_type_ids": features}
        if len(anatomy.pools) > 1:  # as the family's own processor does it: with the tokens before and after the image
            frame = [backbone.config[key] for key in ("image_token_id", "image_start_token_id", "image_end_token_id")]
            more["moe_mm_token_type_ids"] = torch.isin(torch.tensor([document.ids]), torch.tensor(frame)).int()
    with torch.no_grad():
        model.model(input_ids=torch.tensor([document.ids]), use_cache=False, **more)
    for hook in hooks:
        hook.remove()
    n, k = backbone.num_experts, backbone.top_k
    counts = [[[0] * n for _ in MODALITIES] for _ in backbone.moe_layers]
    mass = [[[0.0] * n for _ in MODALITIES] for _ in backbone.moe_layers]
    for row, i in enumerate(backbone.moe_layers):
        block = getattr(layers[i], anatomy.block)
        for position, modality in enumerate(document.modality):
            pool = int(modality == VIT) if len(anatomy.pools) > 1 else 0
            path = ".".join(part for part in (anatomy.pools[pool], anatomy.router) if part)
            state = dict(block.get_submodule(path).state_dict())
            weight = next(value for name, value in state.items() if name.endswith("weight"))
            bias = state[anatomy.bias].flatten().tolist() if anatomy.bias else [0.0] * len(weight)
            logits = [float(value) for value in weight.double() @ inputs[i][position].double()]
            chosen = _route(logits, bias, k, backbone, text)
            first = sum(backbone.pool_sizes[:pool])
            for expert, share in chosen.items():
                counts[row][modality][first + expert] += 1
                mass[row][modality][first + expert] += share
    return counts, mass


def _route(logits: list[float], bias: list[float], k: int, backbone: Backbone, text: dict[str, Any]) -> dict[int, float]:
    """{expert: weight} of one token."""
    anatomy = backbone.anatomy
    if anatomy.scoring == "softmax":
        total = sum(np.exp(logits))
        scores = [float(np.exp(z) / total) for z in logits]
    else:
        scores = [float(1 / (1 + np.exp(-z))) for z in logits]
    choice = {e: score + b for e, (score, b) in enumerate(zip(scores, bias, strict=True))}
    if anatomy.limits:
        parts, best = (int(text[key]) for key in anatomy.limits)
        size = len(scores) // parts
        ranked = sorted(range(parts), key=lambda p: -sum(sorted(choice[e] for e in range(p * size, (p + 1) * size))[-2:]))
        choice = {e: value for e, value in choice.items() if e // size in ranked[:best]}
    chosen = sorted(choice, key=lambda e: -choice[e])[:k]
    rule = anatomy.renormalise
    total = sum(scores[e] for e in chosen) if (rule if isinstance(rule, bool) else text.get(rule, False)) else 1.0
    factor = float(text[anatomy.scaling]) if anatomy.scaling else 1.0
    return {e: scores[e] / total * factor for e in chosen}

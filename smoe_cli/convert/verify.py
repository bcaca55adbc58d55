"""Proof that an exported folder holds the model: it is opened with plain transformers and compared, tensors and logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from smoe_cli.errors import Failure
from smoe_cli.model.model import SymbioticModel

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "2 + 2 = 4; 17, 256 and 1048576 are numbers.",
    "def add(a, b):\n    return a + b\n",
    "Größe, naïve, 光, 🙂",
)
"""What the logits are compared on."""

TOLERANCE = 1e-5
"""Largest difference of logits, as a share of the largest logit. Zero is usual: same weights, same kernels, float32."""


@dataclass(frozen=True)
class Check:
    """What was compared: tokens, and the largest difference of their logits (absolute)."""

    tokens: int
    difference: float


def verify(folder: Path, model: SymbioticModel, tokenizer: Any, tensors: Mapping[str, Tensor]) -> Check:
    """Open `folder` with transformers alone and compare it with `tensors` bit for bit and with `model` by its logits.

    Raises Failure naming what differs.
    """
    training = model.recipe.training
    pair: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation=training.attention,
        experts_implementation=training.experts,
        output_loading_info=True,
    )
    opened, info = pair
    for parameter in opened.parameters():
        # Loaded weights lie in the file's mapping, at any address, and matrix products on the CPU round by address.
        parameter.data = parameter.data.clone()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise Failure(f"the written checkpoint has {kind.replace('_', ' ')}: {sorted(map(str, info[kind]))[:5]}")
    written = opened.state_dict()
    if wrong := [name for name in tensors if name not in written or not torch.equal(tensors[name], written[name])]:
        raise Failure(f"tensors of the written checkpoint differ from the model's: {wrong[:5]}")
    reader = AutoTokenizer.from_pretrained(folder)
    tokens, difference = 0, 0.0
    for text in TEXTS:
        ids = tokenizer.encode(text)
        if reader.encode(text) != ids:
            raise Failure(f"the written tokenizer encodes {text!r} differently")
        input_ids = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            ours = model.backbone(input_ids=input_ids, use_cache=False).logits.cpu()
            theirs = opened.eval()(input_ids=input_ids.cpu(), use_cache=False).logits
        worst = float((ours - theirs).abs().max())
        if not worst <= TOLERANCE * float(ours.abs().max()):
            raise Failure(f"the written checkpoint's logits differ from the model's by {worst:g} on {text!r}")
        tokens, difference = tokens + len(ids), max(difference, worst)
    return Check(tokens, difference)

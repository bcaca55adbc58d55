"""A drawing as a PNG file that says how it was made."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image, PngImagePlugin

from smoe_cli.recipe.models import Sampling

STORED = ("steps", "guidance", "guidance_interval", "renormalise", "shift")
"""Sampling settings that a drawing depends on."""


def drawing_settings(sampling: Sampling) -> dict[str, Any]:
    """These settings, as JSON."""
    return sampling.model_dump(mode="json", include=set(STORED))


def png_bytes(image: Image.Image, prompt: str, seed: int, sampling: Sampling, model_sha256: str | None = None) -> bytes:
    """The file: pixels, prompt, seed, sampling settings as JSON, hash of the model's weights."""
    facts = PngImagePlugin.PngInfo()
    facts.add_itxt("prompt", prompt)
    facts.add_text("seed", str(seed))
    for name, value in drawing_settings(sampling).items():
        facts.add_text(name, json.dumps(value))
    if model_sha256 is not None:
        facts.add_text("model_sha256", model_sha256)
    png = io.BytesIO()
    image.save(png, format="PNG", pnginfo=facts)
    return png.getvalue()

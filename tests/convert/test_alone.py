"""Exports are accepted unchanged by plain transformers in a process that cannot import this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smoe_cli.convert.options import Options
from smoe_cli.convert.original import to_original
from smoe_cli.convert.understanding import to_understanding
from smoe_cli.families import ANATOMIES
from smoe_cli.model.io import load_model
from tests.convert.make import convert

READER = """
import json
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "smoe_cli":
            raise ImportError("this package is not here")
sys.meta_path.insert(0, Blocked())
try:
    import smoe_cli
    raise SystemExit("smoe_cli could be imported")
except ImportError:
    pass
import torch
import transformers
from safetensors.torch import load_file, save_file
for folder, auto, given, out in json.loads(sys.argv[1]):
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone()  # off the file's mapping: rounding depends on the address
    batch = load_file(given)
    text = batch.pop("text")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode("Words 42.\\n") == text[0].tolist()
    model.eval()
    with torch.inference_mode():
        answers = {"text": model(input_ids=text, use_cache=False).logits}
        if batch:
            answers["image"] = model(**batch, use_cache=False).logits
    new = model.generate(text, max_new_tokens=4, do_sample=False)
    assert new.shape[1] > text.shape[1]
    save_file(answers, out)
    print(type(model).__module__)
"""
POOLS = [
    {"name": "text", "modalities": ["text"], "experts": 8, "select": list(range(8))},
    {"name": "images", "modalities": ["vit", "vae"], "experts": 8},
]
"""ERNIE's own two pools of experts."""


def image_batch(config: Any, frame: tuple[int, int]) -> dict[str, torch.Tensor]:
    """One image in a text."""
    spec = config.vision_config
    rows, frames = 2 * spec.spatial_merge_size, getattr(spec, "temporal_patch_size", 1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(rows * rows, 3 * frames * spec.patch_size**2, generator=generator)
    ids = torch.tensor([[7, 8, frame[0], *[config.image_token_id] * 4, frame[1], 9, 10, 11]])
    return {
        "input_ids": ids,
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, rows, rows]]),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
    }


@pytest.mark.parametrize("target", ["understanding", "original"])
def test_loads_without_this_package_and_gives_the_same_logits(tmp_path: Path, target: str) -> None:
    one = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 8}]  # the original routes to all experts
    jobs, wanted = [], []
    for family in ANATOMIES:
        changes: dict[str, Any] = {"model.groups": one} if target == "original" else {}
        if family == "ernie4_5_vl_moe":
            changes = {"model.groups": POOLS}
        work = tmp_path / family
        work.mkdir()
        _, folder = convert(work, family, Options(verify="tensors"), **changes)
        (to_original if target == "original" else to_understanding)(folder, work / "out", Options(verify="tensors"))
        model, tokenizer, _, plan = load_model(folder)
        multimodal = ANATOMIES[family].multimodal
        batch = image_batch(model.backbone.config, plan.source.backbone.image_tokens or (0, 0)) if multimodal else {}
        text = torch.tensor([tokenizer.encode("Words 42.\n")])
        save_file({**batch, "text": text}, work / "given")
        auto = "AutoModelForImageTextToText" if multimodal else "AutoModelForCausalLM"
        jobs.append([str(work / "out"), auto, str(work / "given"), str(work / "answers")])
        with torch.inference_mode():
            answers = {"text": model.backbone(input_ids=text, use_cache=False).logits}
            if multimodal:
                answers["image"] = model.backbone(**batch, use_cache=False).logits
        wanted.append(answers)
    command = [sys.executable, "-c", READER, json.dumps(jobs)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [f"transformers.models.{family}.modeling_{family}" for family in ANATOMIES]
    for family, answers in zip(ANATOMIES, wanted, strict=True):
        read = load_file(tmp_path / family / "answers")
        assert read.keys() == answers.keys()
        assert all(torch.equal(read[kind], answers[kind]) for kind in answers), family

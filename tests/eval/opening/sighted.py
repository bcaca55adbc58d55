"""Small random models that see images, in folders as transformers writes them, with processors that need no torchvision."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from tests.eval.tiny import byte_tokenizer
from tests.families.tiny import plain_model

SIDE = 32
"""Of the images, in pixels: whole patches, which nothing resizes."""
TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<start><image_pad><end>{% else %}{{ part.text + '\n' }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
"""An image between its frame, the question, a line feed: as our models are asked (`smoe_cli.data.documents`)."""
FAMILY_PROCESSORS = {
    "qwen3_vl_moe": ("qwen2_vl", "Qwen2VLImageProcessorPil", "Qwen3VLProcessor"),
    "qwen3_5_moe": ("qwen2_vl", "Qwen2VLImageProcessorPil", "Qwen3VLProcessor"),
    "glm4v_moe": ("glm4v", "Glm4vImageProcessorPil", "Glm4vProcessor"),
    "ernie4_5_vl_moe": ("ernie4_5_vl_moe", "Ernie4_5_VLMoeImageProcessorPil", "Ernie4_5_VLMoeProcessor"),
}
"""Family: module and class of its image processor, class of its processor."""
_TEXT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}


def picture(seed: int) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def image_tokenizer(**tokens: int) -> PreTrainedTokenizerFast:
    """The byte tokenizer of `tiny` with more special tokens, given with their ids; unused ones fill the gaps."""
    tokenizer = byte_tokenizer()
    by_id = {number: name for name, number in tokens.items()}
    more = [by_id.get(i, f"<unused{i}>") for i in range(len(tokenizer), max(by_id) + 1)]
    tokenizer.add_special_tokens({"extra_special_tokens": more}, replace_extra_special_tokens=False)
    assert all(tokenizer.convert_tokens_to_ids(name) == number for name, number in tokens.items())
    return tokenizer


def write_family(folder: Path, family: str, template: str | None = TEMPLATE) -> Path:
    """A multimodal family of `tests.families` with tokenizer, processor and template."""
    plain_model(family).save_pretrained(folder)
    frame = {"<image_pad>": 290, "<video_pad>": 291, "<start>": 292, "<end>": 293, "<vstart>": 294, "<vend>": 295}
    tokenizer = image_tokenizer(**frame)
    module, cls, processor = FAMILY_PROCESSORS[family]
    images = getattr(importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}"), cls)
    images(patch_size=8, size={"shortest_edge": 1, "longest_edge": 10**6}).save_pretrained(folder)
    names = {"image_token": "<image_pad>", "video_token": "<video_pad>"}
    names |= {"image_start_token": "<start>", "image_end_token": "<end>"}
    names |= {"video_start_token": "<vstart>", "video_end_token": "<vend>"}
    tokenizer.init_kwargs |= {"processor_class": processor, "model_specific_special_tokens": names}
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def write_llava(folder: Path, template: str | None = None) -> Path:
    """LLaVA: CLIP, a projector, Llama. An image of 32 × 32 pixels is 16 tokens."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_VISION),
        text_config=LlamaConfig(**_TEXT),
        image_token_index=262,
        image_seq_length=16,
    )
    _save(LlavaForConditionalGeneration, config, folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        image_tokenizer(**{"<picture>": 262}),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<picture>",
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def write_idefics3(folder: Path) -> Path:
    """Idefics3 (SmolVLM without videos), which writes several tokens of its own around an image."""
    names = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    config = Idefics3Config(
        text_config={"model_type": "llama", **_TEXT}, vision_config=_VISION, image_token_id=3, scale_factor=2, pad_token_id=0
    )
    _save(Idefics3ForConditionalGeneration, config, folder)
    Idefics3Processor(
        Idefics3ImageProcessorPil(do_image_splitting=False, size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}),
        image_tokenizer(**dict(zip(names, range(261, 264), strict=True))),
        image_seq_len=4,
    ).save_pretrained(folder)
    return folder


def _save(cls: Any, config: Any, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = cls(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.eval().save_pretrained(folder)


def write_questions(folder: Path, count: int = 5) -> Path:
    """Questions in the columns of OCRBench, as JSON lines, with their images beside them."""
    folder.mkdir(parents=True)
    lines = []
    for i in range(count):
        picture(i).save(folder / f"{i}.png")
        row = {
            "dataset": "IIIT5K",
            "question_type": "Regular Text Recognition",
            "question": "what is written here?"[: 4 + 3 * i],
            "answer": [chr(ord("a") + i)],
            "image": f"{i}.png",
        }
        lines.append(json.dumps(row) + "\n")
    (folder / "questions.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "questions.jsonl"


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    written = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in written.items() if value is not None}), encoding="utf-8")

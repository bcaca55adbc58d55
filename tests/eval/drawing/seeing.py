"""Tiny random vision and CLIP models in folders of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 259,
    "max_position_embeddings": 12,
}
LETTERS = "Ġ!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"


def write_vit(folder: Path, pooler: bool = True) -> Path:
    """A ViT; without its pooler as classifiers are saved."""
    torch.manual_seed(0)
    return _write(folder, ViTModel(ViTConfig(**TOWER), add_pooling_layer=pooler), "ViTImageProcessor")


def write_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    return _write(folder, Dinov2Model(Dinov2Config(**TOWER)), "ViTImageProcessor")


def write_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = TEXT | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config=TOWER, projection_dim=8)
    return _write(folder, CLIPModel(config), "CLIPImageProcessor", tokenizer=True)


def write_siglip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = TEXT | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "projection_size": 16}
    config = SiglipConfig(text_config=text, vision_config=TOWER)
    return _write(folder, SiglipModel(config), "SiglipImageProcessor", tokenizer=True)


def _write(folder: Path, model: Any, processor: str, tokenizer: bool = False) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)  # as initialised, all pictures look alike to it
    model.save_pretrained(folder)
    settings = {
        "image_processor_type": processor,
        "do_resize": True,
        "size": {"height": 16, "width": 16},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.25, 0.3],
    }
    if processor == "CLIPImageProcessor":
        settings |= {"do_center_crop": True, "crop_size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if tokenizer:
        characters_tokenizer().save_pretrained(folder)
    return folder


def characters_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, between <s> (1) and </s> (2)."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, **{letter: 3 + index for index, letter in enumerate(LETTERS)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=12
    )

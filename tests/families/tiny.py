"""A small random checkpoint of every family, written by transformers itself: one row a family.

No two widths are equal where a mix-up of dimensions could hide, and nothing is left at a value that hides a mistake: norms are
not 1, selection biases and gates not 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from smoe_cli.data.tokenizer import load_tokenizer
from smoe_cli.recipe.models import BytesTokenizer

_TEXT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_DEEPSEEK = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
_SEES = {"image_token_id": 290, "video_token_id": 291}
_VISION = {
    "depth": 2,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "out_hidden_size": 32,
}

TEXT_FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "shared_expert_intermediate_size": 20,
    },
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "head_dim": 8},
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 12},
    "deepseek_v3": {
        **_DEEPSEEK,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
    },
    "glm4_moe": {**_DEEPSEEK, "n_group": 1, "topk_group": 1, "head_dim": 8},
    "hunyuan_v1_moe": {"num_experts": 8, "moe_topk": 2, "intermediate_size": 12, "head_dim": 8},
}
DENSE_FAMILIES: dict[str, dict[str, Any]] = {"llama": {}, "qwen2": {}, "qwen3": {"head_dim": 8}, "olmo2": {}}
MULTIMODAL_FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_vl_moe": {
        "text_config": {
            **_TEXT,
            "head_dim": 8,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "rope_parameters": {**_ROPE, "mrope_interleaved": True},
        },
        "vision_config": {
            **_VISION,
            "temporal_patch_size": 2,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        "vision_start_token_id": 292,
        "vision_end_token_id": 293,
        **_SEES,
    },
    "glm4v_moe": {
        "text_config": {
            **_TEXT,
            **_DEEPSEEK,
            "head_dim": 8,
            "n_group": 1,
            "topk_group": 1,
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 1.0},
        },
        "vision_config": {**_VISION, "temporal_patch_size": 2, "image_size": 32},
        "image_start_token_id": 292,
        "image_end_token_id": 293,
        **_SEES,
    },
    "ernie4_5_vl_moe": {
        "text_config": {
            **_TEXT,
            "moe_intermediate_size": [12, 8],
            "moe_k": 2,
            "moe_num_experts": 8,
            "moe_num_shared_experts": 1,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]},
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_merge_size": 2,
        },
        "image_start_token_id": 292,
        "image_end_token_id": 293,
        "video_start_token_id": 294,
        "video_end_token_id": 295,
        **_SEES,
    },
    "qwen3_5_moe": {
        "text_config": {
            **_TEXT,
            "num_hidden_layers": 4,
            "head_dim": 8,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 20,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 1.0, "mrope_interleaved": True},
        },
        "vision_config": {**_VISION, "temporal_patch_size": 2, "num_position_embeddings": 16},
        "vision_start_token_id": 292,
        "vision_end_token_id": 293,
        **_SEES,
    },
}
FAMILIES = (*TEXT_FAMILIES, *MULTIMODAL_FAMILIES)
"""Families of mixture-of-experts models."""


def plain_model(family: str, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """The family's own model with random weights, float32, in evaluation mode. overrides: keys of the (text) config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family in MULTIMODAL_FAMILIES:
            row = MULTIMODAL_FAMILIES[family]
            config = AutoConfig.for_model(family, **{**row, "text_config": {**row["text_config"], **overrides}})
            model = AutoModelForImageTextToText.from_config(config)
        else:
            row = {**_TEXT, **(TEXT_FAMILIES.get(family) or DENSE_FAMILIES[family]), **overrides}
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **row))
        for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if n.endswith("correction_bias"))]:
            tensor.data += 0.1 * torch.randn_like(tensor)
    return model.eval()


def write_checkpoint(family: str, folder: Path, seed: int = 0, shards: str = "50GB", **overrides: Any) -> Path:
    """Save `plain_model` with the built-in byte tokenizer. shards: transformers' `max_shard_size`."""
    model = plain_model(family, seed, **overrides)
    model.save_pretrained(folder, max_shard_size=shards)
    load_tokenizer(BytesTokenizer(kind="bytes")).save_pretrained(folder)
    return folder

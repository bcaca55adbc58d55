"""Write the checkpoint that recipes/splits/base.yaml begins with: a small glm4v_moe with random weights.

python recipes/splits/start.py [SEED] [FOLDER]        # 0 and runs/split-start unless given
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from smoe_cli.data.tokenizer import bytes_tokenizer

TEXT = {
    "vocab_size": 264,  # the 261 tokens of the byte tokenizer, and those that GLM puts in the place of pictures and films
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "n_routed_experts": 32,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "first_k_dense_replace": 0,
    "n_group": 1,
    "topk_group": 1,
    "max_position_embeddings": 1024,
    "initializer_range": 0.06,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
        "mrope_section": [8, 4, 4],
    },
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "depth": 2,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_heads": 4,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "image_size": 48,
    "out_hidden_size": 128,
    "initializer_range": 0.06,
}
TOKENS = {"image_start_token_id": 3, "image_end_token_id": 4, "image_token_id": 261, "video_token_id": 262}


def write(seed: int, folder: str) -> None:
    """The checkpoint and its tokenizer."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model("glm4v_moe", text_config=TEXT, vision_config=VISION, tie_word_embeddings=False, **TOKENS)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    bytes_tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    seed, folder = [*sys.argv[1:], *("0", "runs/split-start")[len(sys.argv) - 1 :]]
    write(int(seed), folder)

"""Widths of a backbone's attention, from its config, for FLOPs and memory."""

from __future__ import annotations

from dataclasses import dataclass

from smoe_cli.families import Backbone


@dataclass(frozen=True)
class Attention:
    """Widths over all heads.

    queries, outputs: channels of the queries and of attention's output. keys, values: of keys and values, before each is
    repeated for the queries that share it. full: layers that attend to the whole row. linear, linear_state: layers with a
    recurrent state instead (gated delta rule), and the values of that state.
    """

    heads: int
    queries: int
    outputs: int
    keys: int
    values: int
    full: int
    linear: int
    linear_state: int


def attention_of(backbone: Backbone) -> Attention:
    """From the config keys of transformers."""
    config = backbone.text_config
    heads = int(config["num_attention_heads"])
    groups = int(config.get("num_key_value_heads") or heads)
    kinds = config.get("layer_types") or ["full_attention"] * backbone.layers
    linear = sum(kind == "linear_attention" for kind in kinds)
    state = 0
    if linear:
        state = config["linear_num_value_heads"] * config["linear_key_head_dim"] * config["linear_value_head_dim"]
    if "kv_lora_rank" in config:  # latent attention (DeepSeek-V2, arXiv 2405.04434)
        key, value = config["qk_nope_head_dim"] + config["qk_rope_head_dim"], config["v_head_dim"]
    else:
        key = value = config.get("head_dim") or backbone.hidden_size // heads
    return Attention(
        heads=heads,
        queries=heads * key,
        outputs=heads * value,
        keys=groups * key,
        values=groups * value,
        full=backbone.layers - linear,
        linear=linear,
        linear_state=state,
    )

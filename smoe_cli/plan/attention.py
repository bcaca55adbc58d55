"""Widths of a backbone's attention, from its config, for FLOPs and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from smoe_cli.errors import UserError
from smoe_cli.families import Backbone
from smoe_cli.families.backbone import integer


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
    """From the config keys of transformers. Raises UserError naming one that is missing or no number."""
    config = backbone.text_config
    heads = integer(config, "num_attention_heads", least=1)
    groups = heads if config.get("num_key_value_heads") is None else integer(config, "num_key_value_heads", least=1)
    kinds = config.get("layer_types") or ["full_attention"] * backbone.layers
    if not isinstance(kinds, list) or len(kinds) != backbone.layers:
        raise UserError(f"config.json: `layer_types` should name the kind of each of the {backbone.layers} layers")
    linear = sum(kind == "linear_attention" for kind in kinds)
    state = 0
    if linear:
        widths = ("linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim")
        state = math.prod(integer(config, key) for key in widths)
    if "kv_lora_rank" in config:  # latent attention (DeepSeek-V2, arXiv 2405.04434)
        key = integer(config, "qk_nope_head_dim") + integer(config, "qk_rope_head_dim")
        value = integer(config, "v_head_dim")
    else:
        own = config.get("head_dim")
        key = value = backbone.hidden_size // heads if own is None else integer(config, "head_dim", least=1)
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

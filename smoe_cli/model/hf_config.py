"""The config of a model folder, as transformers reads it. Importing this imports transformers, not torch's modelling code."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

MODEL_TYPE = "symbiotic_moe"


class SymbioticConfig(PretrainedConfig):
    """recipe: the resolved recipe. source: what its plan was compiled from (`smoe_cli.plan.source.Source`), so that the folder
    can be opened without the checkpoint and the profile it came from. The other keys repeat facts of the backbone for tools
    that look for them; the model is built from `recipe` and `source` alone."""

    model_type = MODEL_TYPE

    recipe: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    use_cache: bool = True

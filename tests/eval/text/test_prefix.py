"""The shared prefix: the scores of whole prompts, for every family and cache, and each prefix run once."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BltConfig,
    BltForCausalLM,
    FalconH1Config,
    Gemma3TextConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3NextConfig,
)

from smoe_cli.eval.predictions import best
from smoe_cli.eval.protocols import Request
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import evaluate_mmlu
from smoe_cli.eval.text.mmlu_data import load_mmlu
from smoe_cli.eval.text.prefix import LEAST, common_prefix, why_not
from tests.eval.folders import build
from tests.eval.tiny import Watch, byte_tokenizer, tiny_qwen2_moe, write_mmlu
from tests.families.tiny import FAMILIES, plain_model, write_checkpoint
from tests.helpers import tiny
from tests.model.pretrained import decoder, pretrained, split

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
NEXT = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "initializer_range": 0.1,  # with larger weights rounding alone reaches 1e-4
}
FALCON = {
    "mamba_d_ssm": 32,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 64,
    "factor": 4.0,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}


def model_of(config: Callable[..., PreTrainedConfig], **more: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**{**SMALL, **more})).eval()


def asked(prefix: int = 120, questions: int = 7) -> list[Request]:
    """Questions of 1 to 50 tokens after the same tokens, with four continuations, the last of two tokens."""
    rng = random.Random(0)

    def ids(count: int) -> list[int]:
        return [rng.randrange(5, 256) for _ in range(count)]

    shared = ids(prefix)
    contexts = [shared + ids(rng.randint(1, 50)) for _ in range(questions)]
    return [(context, end) for context in contexts for end in ([5], [6], [7], [8, 9])]


def check_same_as_whole(model: Any, max_length: int = 256) -> None:
    """Scores with and without the prefix, for batches of one and of several."""
    requests = asked()
    whole = BatchedScorer(model, max_length, 4, share_prefix=False).log_likelihoods(requests)
    for batch_size in (1, 4):
        shared = BatchedScorer(model, max_length, batch_size).log_likelihoods(requests)
        assert shared == pytest.approx(whole, abs=2e-5)
        for start in range(0, len(shared), 4):
            assert best(shared[start : start + 4]) == best(whole[start : start + 4])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shares(family: str) -> None:
    model = plain_model(family).eval()
    assert why_not(model) is None
    if hasattr(model.base_model, "rope_deltas"):
        model.base_model.rope_deltas = torch.tensor([[-7]])  # as answering a question about an image leaves it
    check_same_as_whole(model)


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (MistralConfig, {"sliding_window": 24}),  # shorter than the prefix, in all layers
        (Gemma3TextConfig, {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"] * 2}),
        (Qwen3NextConfig, NEXT),  # recurrent layers
    ],
)
def test_windows_and_recurrences_share(config: Any, more: dict[str, Any]) -> None:
    model = model_of(config, **more)
    assert why_not(model) is None
    check_same_as_whole(model)


@pytest.mark.parametrize(
    ("config", "more", "reason"),
    [
        (FalconH1Config, FALCON, "layers of kind LinearAttentionAndFullAttentionLayer"),
        (MambaConfig, {}, "does not take past_key_values, position_ids"),
        (Phi3Config, {"rope_parameters": LONGROPE}, "of type longrope"),
        (LlamaConfig, {"rope_parameters": DYNAMIC}, "of type dynamic"),
        (Gemma3TextConfig, {"rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": DYNAMIC}}, "of type dynamic"),
        (Llama4TextConfig, {"attention_chunk_size": 24, "num_local_experts": 2, "intermediate_size_mlp": 40}, "chunked"),
    ],
)
def test_models_that_cannot_share_read_whole_prompts(config: Any, more: dict[str, Any], reason: str) -> None:
    model = model_of(config, **more)
    assert reason in (why_not(model) or "")
    requests = asked(questions=3)
    watch = Watch(model)
    BatchedScorer(model, 256, 4).log_likelihoods(requests)
    longest = sorted((len(context) for context, _ in requests), reverse=True)
    assert watch.read[0] == (4, longest[0] + 1)


def test_a_config_without_a_number_of_layers() -> None:
    with torch.device("meta"):
        model = BltForCausalLM(BltConfig())
    assert why_not(model) == "its config does not say how many layers its cache has"


def test_the_backbone_of_ours_shares() -> None:
    model, _ = build(tiny())
    assert why_not(model.backbone) is None
    check_same_as_whole(model.backbone)


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_vl_moe", "qwen3_5_moe"])
def test_a_pretrained_backbone_of_ours_shares(family: str, tmp_path: Path) -> None:
    """Compressed attention; three axes of positions; recurrences that ours takes apart into documents."""
    folder = write_checkpoint(family, tmp_path)
    backbone, _ = decoder(pretrained(folder, split(folder, [0, 3, 4, 5])))
    assert why_not(backbone) is None
    check_same_as_whole(backbone.eval())


def test_a_prefix_runs_once_a_subject(tmp_path: Path) -> None:
    """Tokens run: of every subject the shared prefix once, then each question's own tokens, padded within its batch."""
    model, tokenizer = tiny_qwen2_moe(), byte_tokenizer()
    sizes = {"anatomy": 9, "virology": 5}
    data = load_mmlu(write_mmlu(tmp_path / "mmlu", sizes), 5)
    watch = Watch(model)
    shared = evaluate_mmlu(BatchedScorer(model, 4096, 4), tokenizer, data)
    prefixes = [read for read in watch.read if read[0] == 1 and read[1] > 500]
    assert len(prefixes) == 2
    assert [rows for rows, _ in watch.read] == [1, 4, 4, 1, 1, 4, 1]
    assert watch.predicted[0] == (1, 1)  # and the head at one of the prefix's positions
    tokens = sum(rows * width for rows, width in watch.read)
    watch.read.clear()
    whole = evaluate_mmlu(BatchedScorer(model, 4096, 4, share_prefix=False), tokenizer, data)
    saved = sum(length * (sizes[subject] - 1) for (_, length), subject in zip(prefixes, sizes, strict=True))
    assert tokens == sum(rows * width for rows, width in watch.read) - saved
    for one, other in zip(shared.predictions, whole.predictions, strict=True):
        assert one.facts["chosen"] == other.facts["chosen"]
        assert one.facts["log_likelihoods"] == pytest.approx(other.facts["log_likelihoods"], abs=1e-5)
    assert shared.protocol == whole.protocol


def test_prompts_that_are_cut_share_nothing() -> None:
    model, requests = tiny_qwen2_moe(), asked()
    limit = 145
    whole = BatchedScorer(model, limit, 4, share_prefix=False)
    expected = whole.log_likelihoods(requests)
    assert 0 < whole.truncated < len(requests)
    assert BatchedScorer(model, limit, 4).log_likelihoods(requests) == pytest.approx(expected, abs=2e-5)
    watch = Watch(model)
    BatchedScorer(model, limit, 1).log_likelihoods(requests)
    assert {width for _, width in watch.read if width >= limit} == {limit}  # left whole


def test_short_prefixes_and_single_rows_are_not_run_apart() -> None:
    model = tiny_qwen2_moe()
    watch = Watch(model)
    BatchedScorer(model, 256, 8).log_likelihoods(asked(LEAST - 1))
    assert all(width > LEAST - 1 for _, width in watch.read)
    watch.read.clear()
    BatchedScorer(model, 256, 8).log_likelihoods([(list(range(10, 100)), [5]), (list(range(10, 100)), [6])])
    assert watch.read == [(1, 90)]


def test_a_prompt_that_another_begins_with() -> None:
    """The prefix ends where anything is asked, and leaves every row a token."""
    model, ids = tiny_qwen2_moe(), list(range(5, 105))
    requests = [(ids[:60], [9]), (ids, [9]), (ids[:80], ids[80:100])]
    expected = BatchedScorer(model, 256, 1, share_prefix=False).log_likelihoods(requests)
    watch = Watch(model)
    assert BatchedScorer(model, 256, 4).log_likelihoods(requests) == pytest.approx(expected, abs=2e-5)
    assert watch.read[0] == (1, 59)


def test_common_prefix() -> None:
    assert common_prefix([(1, 2, 3), (1, 2, 4), (1, 2)]) == 2
    assert common_prefix([(1, 2), (3,), (1, 2)]) == 0
    assert common_prefix([(7, 8)]) == 2

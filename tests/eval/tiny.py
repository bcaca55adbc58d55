"""Tiny stand-ins that need none of our own model: a byte tokenizer, a random Qwen2-MoE, MMLU questions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, Qwen2MoeConfig, Qwen2MoeForCausalLM


def byte_tokenizer(adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """Five special tokens, then one token a byte; adds no special tokens by default, or a bos before every text."""
    specials = ["<pad>", "<bos>", "<eos>", "<image>", "</image>"]
    vocabulary = {token: index for index, token in enumerate([*specials, *sorted(ByteLevel.alphabet())])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    if adds_bos:
        tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def tiny_qwen2_moe(max_position_embeddings: int = 4096, seed: int = 0) -> Qwen2MoeForCausalLM:
    """A random model of a few thousand parameters whose predictions differ from token to token."""
    torch.manual_seed(seed)
    config = Qwen2MoeConfig(
        vocab_size=261,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        intermediate_size=32,
        max_position_embeddings=max_position_embeddings,
        initializer_range=0.5,
    )
    return Qwen2MoeForCausalLM(config).eval()


class Watch:
    """What a model is made to do: `read` has (rows, tokens) of each forward pass, `predicted` (rows, positions) of its head."""

    def __init__(self, model: torch.nn.Module):
        self.read: list[tuple[int, int]] = []
        self.predicted: list[tuple[int, int]] = []
        model.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, model: torch.nn.Module, args: Any, given: dict[str, Any], output: Any) -> None:
        self.read.append(tuple(given["input_ids"].shape))
        self.predicted.append(tuple(output.logits.shape[:2]))


def mmlu_rows(subject: str, split: str, count: int) -> list[dict[str, Any]]:
    """Questions in the columns of cais/mmlu, with what trips readers up: white space, unicode, choices named None."""
    rng = random.Random(f"{subject} {split}")
    words = ["time", "space", "number", "field", "ring", "group", "None", "NA", "naïve", "光", "energy"]
    return [
        {
            "question": f"  {' '.join(rng.choices(words, k=rng.randint(2, 30)))}\n (case {index})? ",
            "subject": subject,
            "choices": [
                rng.choice(words),
                " None" if index % 3 == 0 else rng.choice(words),
                rng.choice(words),
                rng.choice(words) + " ",
            ],
            "answer": rng.randrange(4),
        }
        for index in range(count)
    ]


def write_mmlu(folder: Path, subjects: dict[str, int]) -> Path:
    """A folder in the layout of cais/mmlu, as JSON lines: `subjects` = {name: number of test questions}, five examples each."""
    for subject, count in subjects.items():
        (folder / subject).mkdir(parents=True)
        for split, rows in (("dev", mmlu_rows(subject, "dev", 5)), ("test", mmlu_rows(subject, "test", count))):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / subject / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def arc_rows(count: int) -> list[dict[str, Any]]:
    """Questions in the columns of allenai/ai2_arc: three to five choices, labels by letter or by number."""
    rng = random.Random("arc")
    words = ["ice", "a stone ", "naïve", "光", "the wind", "none of these"]
    rows = []
    for index in range(count):
        choices = [f"{rng.choice(words)} {number}" for number in range(rng.randint(3, 5) if index > 2 else 3)]
        labels = list("ABCDE" if index % 2 or index < 3 else "12345")[: len(choices)]
        question = f" {' '.join(rng.choices(words, k=rng.randint(2, 9)))}? "
        rows.append(
            {
                "id": f"Q_{index}",
                "question": question,
                "choices": {"text": choices, "label": labels},
                "answerKey": rng.choice(labels),
            }
        )
    return rows


def write_arc(folder: Path, count: int, split: str = "test") -> Path:
    """A folder in the layout of allenai/ai2_arc, as JSON lines; called again, with a further split."""
    (folder / "ARC-Easy").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in arc_rows(count))
    (folder / "ARC-Easy" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def hellaswag_rows(count: int) -> list[dict[str, Any]]:
    """Questions in the columns of Rowan/hellaswag, with what is left over from WikiHow."""
    rng = random.Random("hellaswag")
    phrases = [
        "[header] How to sit [title] Bend.",
        "a  man is on a roof. ",
        "[step] then naïve 光",
        "sits down",
        "[substeps] he waits [x]",
    ]
    return [
        {
            "ind": 7,
            "activity_label": rng.choice(["Roof shingle removal", "Home and Garden "]),
            "ctx_a": rng.choice(phrases),
            "ctx_b": rng.choice(["", "he", "the [title] Man"]),
            "endings": [f"{rng.choice(phrases)} {number}" for number in range(4)],
            "label": str(rng.randrange(4)),
        }
        for _ in range(count)
    ]

"""Whether a prompt and what follows it fit the model's positions. Past them a model answers and draws noise, silently."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from PIL import Image
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.documents import DocumentBuilder
from smoe_cli.data.sample import BadRow
from smoe_cli.errors import UserError
from smoe_cli.model.model import SymbioticModel

Named = tuple[str, str]
"""How to name a prompt in a message (`questions.jsonl: row 3`), and its text."""


UNLIMITED = 2048
"""Tokens read at once by a model without a limit of its own, as in lm-evaluation-harness."""


def positions(causal_lm: Any, tokenizer: Any) -> int:
    """Tokens that a transformers model reads at once: its config's number, else its tokenizer's, else UNLIMITED (where
    positions have no end, as in Bloom and Mamba)."""
    config = causal_lm.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    return tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else UNLIMITED


def check_answers_fit(
    model: SymbioticModel, tokenizer: PreTrainedTokenizerFast, questions: Iterable[Named], max_new_tokens: int
) -> None:
    """Raise UserError naming the first question that is no Unicode or, with image and longest answer, has too many tokens."""
    builder = DocumentBuilder(model.recipe, model.plan, tokenizer)
    for question in questions:
        check_answer_fits(model, builder, question, max_new_tokens)


def check_answer_fits(model: SymbioticModel, builder: DocumentBuilder, question: Named, max_new_tokens: int) -> None:
    """The same of one question, by the model's builder."""
    name, text = question
    height, width = builder.vit_size
    try:
        # whatever the image: each has the same number of tokens
        prompt = len(builder.to_answer(Image.new("RGB", (width, height)), text))
    except BadRow as error:
        raise UserError(f"{name}: {error.detail}") from None
    parts = f"{prompt} tokens of prompt and image and {max_new_tokens} of the answer"
    _check(model, name, prompt + max_new_tokens, parts, "shorten the question, or allow a shorter answer")


def check_drawings_fit(model: SymbioticModel, tokenizer: PreTrainedTokenizerFast, captions: Iterable[Named]) -> None:
    """Raise UserError naming the first caption that is no Unicode or, with the image to draw, has too many tokens."""
    builder = DocumentBuilder(model.recipe, model.plan, tokenizer)
    for name, caption in captions:
        try:
            prompt = len(builder.to_draw(caption))
        except BadRow as error:
            raise UserError(f"{name}: {error.detail}") from None
        parts = f"{prompt} tokens of prompt and {builder.vae_tokens} of the image"
        _check(model, name, prompt + builder.vae_tokens, parts, "shorten the caption")


def _check(model: SymbioticModel, name: str, tokens: int, parts: str, help: str) -> None:
    limit = model.backbone.config.get_text_config().max_position_embeddings
    if tokens > limit:
        raise UserError(f"{name}: {parts} do not fit the model's {limit} positions", help)

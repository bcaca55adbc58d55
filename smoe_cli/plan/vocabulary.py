"""Whether a checkpoint has a tokenizer. Without one transformers makes an empty tokenizer of the family, without a word."""

from __future__ import annotations

from pathlib import Path

from smoe_cli.errors import UserError

_FILES = ("tokenizer.json", "tokenizer.*.json", "*.model", "vocab.json", "vocab.txt", "tekken.json")
"""What holds a vocabulary: of the tokenizers library, of sentencepiece and tiktoken, of older BPE and WordPiece, of Mistral."""

REMEDY = (
    "copy it from the original, or set model.tokenizer in the recipe: `{kind: bytes}`, or `{kind: pretrained, path: …}` "
    "with the folder of another"
)


def check_vocabulary(folder: Path) -> None:
    """Raise UserError unless `folder` has a file with a tokenizer's vocabulary. tokenizer_config.json alone has none."""
    if not any(path.is_file() for pattern in _FILES for path in folder.glob(pattern)):
        raise UserError(f"{folder}: no tokenizer.json, nor another file with a tokenizer's vocabulary", REMEDY)

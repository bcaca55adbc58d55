"""Text to token ids: a built-in byte tokenizer, or one in Hugging Face layout. `special` adds what frames documents and images.

Text that comes from data never becomes a special token, even where it spells one: `TextEncoder` is the only way from text
to ids in training, and it encodes `<image>` as the characters it is made of.
"""

from __future__ import annotations

import copy
import re
import string
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_cli.errors import UserError
from smoe_cli.plan.vocabulary import REMEDY, check_vocabulary
from smoe_cli.recipe.models import BytesTokenizer, PretrainedTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, IMAGE, IMAGE_END = SPECIALS = ("<pad>", "<bos>", "<eos>", "<image>", "</image>")


def load_tokenizer(spec: BytesTokenizer | PretrainedTokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer of a model from scratch, with pad, bos, eos and the two image tokens. `save_pretrained` it, `AutoTokenizer`
    loads it.

    Raises UserError when a pretrained tokenizer cannot be found or is not of the fast kind.
    """
    if isinstance(spec, BytesTokenizer):
        return bytes_tokenizer()
    tokenizer = read_tokenizer(spec.path)
    own = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
    missing: dict[str, str] = {name: token for name, token in own.items() if getattr(tokenizer, name) is None}
    images = list(spec.image_tokens or (IMAGE, IMAGE_END))
    tokenizer.add_special_tokens({**missing, "extra_special_tokens": images}, replace_extra_special_tokens=False)
    return tokenizer


class TextEncoder:
    """Text → ids, without special tokens, truncation or padding. Picklable, and independent of the tokenizer it came from."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()

    def __call__(self, text: str) -> list[int]:
        """Ids of `text`. Raises ValueError when it is not valid Unicode (a lone surrogate)."""
        try:
            return self._backend.encode(text, add_special_tokens=False).ids
        except TypeError as error:
            raise ValueError("text is not valid Unicode") from error

    def __getstate__(self) -> dict[str, object]:
        return {"backend": self._backend.to_str()}

    def __setstate__(self, state: dict[str, str]) -> None:
        from tokenizers import Tokenizer

        self._backend = Tokenizer.from_str(state["backend"])
        self._backend.encode_special_tokens = True


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """The built-in tokenizer: five special tokens, then the 256 bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(SPECIALS)}
    vocab |= {character: len(SPECIALS) + byte for byte, character in enumerate(_byte_characters())}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"image_token": IMAGE, "image_end_token": IMAGE_END},
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        model_max_length=int(1e30),
    )


def _byte_characters() -> list[str]:
    """The printable character by which the byte-level pre-tokenizer of GPT-2 stands for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def read_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer in Hugging Face layout as it is, from a folder or the hub.

    Raises UserError when there is none, when it cannot be loaded, and when it makes nothing of text.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = Path(path).expanduser()
    is_hub_id = not folder.exists() and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path) is not None
    if not folder.is_dir() and not is_hub_id:
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(f'tokenizer "{path}" {what}', help="give a folder with tokenizer.json, or a hub id such as org/name")
    if not is_hub_id:
        check_vocabulary(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path if is_hub_id else str(folder), revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:
        # Any of OSError, ValueError, KeyError, ImportError, json and hub errors, depending on what is wrong with the files.
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = "no such folder here, and the hub answered" if is_hub_id else "cannot be loaded"
        raise UserError(
            f'tokenizer "{path}": {where}: {first_line}',
            help="give a folder with tokenizer.json, or a hub id such as org/name",
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f'tokenizer "{path}" has no fast version', help="save it as tokenizer.json first")
    if not _reads(tokenizer):
        size = len(tokenizer)
        raise UserError(f'tokenizer "{path}" makes nothing of plain text: its vocabulary of {size} has no part of it', REMEDY)
    return tokenizer


def _reads(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether some of ASCII becomes tokens. Padding, which the mask leaves out, does not count."""
    try:
        return any(tokenizer.backend_tokenizer.encode(string.printable, add_special_tokens=False).attention_mask)
    except Exception:
        # Of no narrower type: the vocabulary lacks a word of the probe and a token for unknown ones. It may have others.
        return True

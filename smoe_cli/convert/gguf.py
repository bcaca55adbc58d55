"""A GGUF file of llama.cpp → a plain Hugging Face folder: weights dequantised, config, tokenizer with its chat template.

transformers reads the file (with the package `gguf`), but refuses to save what it read while the config says "quantized with
gguf": the weights are moved into a model without that entry. The written folder is opened again and compared before it gets
its name.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from smoe_cli.convert.options import Options, Report, check_new, new_folder
from smoe_cli.convert.verify import TEXTS, Check, compare, detached, encode, logits, quiet
from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.provenance import versions
from smoe_cli.files import sha256
from smoe_cli.model.shards import DTYPES, MAX_SHARD

MAGIC = b"GGUF"
DERIVED = ("rope_freqs.weight",)
"""Tensors of a GGUF file that follow from its config."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself. `precisions`: GGUF type → number of tensors; `weights`: values in all tensors."""

    texts: dict[str, str]
    precisions: dict[str, int]
    weights: int


def is_gguf(path: Path) -> bool:
    """Whether the path is a file that begins as GGUF files do, or at least is called like one."""
    if not path.is_file():
        return path.suffix == ".gguf"
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC or path.suffix == ".gguf"


def dequantise(file: Path, out: Path, options: Options) -> Report:
    """Write the model of a GGUF file to the new folder `out`, whole or not at all; in float32, unless asked otherwise.

    Raises UserError when the file is not GGUF, damaged or of an architecture that transformers cannot read, when the package
    `gguf` is missing, or when `out` cannot be written; Failure when the written folder does not hold the same model.
    """
    if not importlib.util.find_spec("gguf"):
        raise UserError(f"{file}: reading GGUF needs the package `gguf`", "pip install 'smoe[gguf]'")
    check_new(out)
    header = _header(file)
    dtype = DTYPES[options.dtype or "F32"]
    with quiet():
        read, tokenizer = _read(file)
        plain = _plain(read, dtype)
    family, parameters = plain.config.model_type, sum(parameter.numel() for parameter in plain.parameters())
    if parameters != header.weights:
        raise UserError(
            f"{file}: holds {header.weights:,} weights, of which transformers' `{family}` takes {parameters:,}",
            "this architecture is not fully supported by transformers' GGUF reader: use the original checkpoint",
        )
    with new_folder(out) as work, quiet():
        plain.save_pretrained(work, max_shard_size=options.max_shard or MAX_SHARD)
        tokenizer.save_pretrained(work)
        files = sorted(work.glob("*.safetensors"))
        report = Report(
            target="original",
            family=family,
            parameters=parameters,
            nbytes=sum(path.stat().st_size for path in files),
            files=len(files),
            check=_verify(work, read, tokenizer, dtype, options),
            notes=(f"dequantised from {_counted(header.precisions)}: no precision comes back",),
        )
        (work / "README.md").write_text(_card(file, header, plain, tokenizer, report), encoding="utf-8")
    return report


def _header(file: Path) -> Header:
    """Raises UserError on a file that is none."""
    from gguf import GGUFReader

    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        reader: Any = GGUFReader(file)
        texts = {name: field.contents() for name, field in reader.fields.items()}
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:  # what reading behind the end gives
        raise UserError(
            f"{file}: not a readable GGUF file ({_first_line(error)})", "the file is damaged; copy it again"
        ) from error
    precisions: dict[str, int] = {}
    numel = 0
    for tensor in reader.tensors:
        if tensor.name not in DERIVED:
            precisions[tensor.tensor_type.name] = precisions.get(tensor.tensor_type.name, 0) + 1
            numel += math.prod(int(n) for n in tensor.shape)
    return Header({name: text for name, text in texts.items() if isinstance(text, str)}, precisions, numel)


def _read(file: Path) -> tuple[PreTrainedModel, Any]:
    """Model (float32) and tokenizer as transformers reads them. Raises UserError when it cannot."""
    folder, name = str(file.absolute().parent), file.name
    try:
        pair: Any = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise UserError(f"{file}: transformers cannot read this GGUF file ({_first_line(error)})") from error
    model, info = pair
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{file}: lacks `{missing[0]}`" + (f" and {len(missing) - 1} more tensors" if missing[1:] else ""))
    return model.eval(), tokenizer


def _plain(read: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The same model, without the mark of its quantisation. Shares its weights when `dtype` is theirs."""
    config = read.config
    for mark in ("quantization_config", "_model_name_or_path"):
        if hasattr(config, mark):
            delattr(config, mark)
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.load_state_dict({name: tensor.to(dtype) for name, tensor in read.state_dict().items()}, assign=True)
    plain.tie_weights()
    plain.generation_config = read.generation_config
    return plain


def _verify(folder: Path, read: PreTrainedModel, tokenizer: Any, dtype: torch.dtype, options: Options) -> Check:
    """Open the folder and compare it with what was read: tensors, token ids, chat template, and logits unless rounded.

    Raises Failure naming what differs.
    """
    opened = detached(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False))
    written = opened.state_dict()
    for name, tensor in read.state_dict().items():
        if name not in written or not torch.equal(tensor.to(dtype), written[name]):
            raise Failure(f"{folder}: `{name}` was not written as it was read")
    reader = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if reader.chat_template != tokenizer.chat_template:
        raise Failure(f"{folder}: the chat template was not written as it was read")
    if any(tokenizer.encode(text) != reader.encode(text) for text in TEXTS):
        raise Failure(f"{folder}: the written tokenizer encodes differently")
    reason = "as asked" if options.verify == "tensors" else None if dtype == torch.float32 else "the weights were rounded"
    if reason is not None:
        return Check(len(written), reason=reason)
    inputs = encode(tokenizer)
    return Check(len(written), *compare(logits(read, inputs), logits(opened, inputs)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _counted(precisions: dict[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in precisions.items())


def _card(file: Path, header: Header, plain: PreTrainedModel, tokenizer: Any, report: Report) -> str:
    """The README's text, with the metadata that the Hugging Face hub reads."""
    head = "tied to the embedding" if plain.config.tie_word_embeddings else "of its own"
    template = "with the file's chat template" if tokenizer.chat_template else "without a chat template: the file has none"
    stored = str(plain.dtype).removeprefix("torch.")
    return f"""---
library_name: transformers
pipeline_tag: text-generation
license: {header.texts.get("general.license", "unknown")}
tags:
- {report.family}
---

# {header.texts.get("general.name", file.stem)}, dequantised

A GGUF file as a plain `{report.family}` checkpoint of transformers. Dequantising brings no precision back: the weights are
those of the quantised model, written out in {stored}.

- File: `{file.name}`, SHA-256 `{sha256(file)}`
- Tensors of the file: {_counted(header.precisions)}
- Parameters: {report.parameters:,}; output head {head}
- Tokenizer {template}
- Written with {", ".join(f"{name} {version}" for name, version in versions("gguf").items())}

The folder was opened again with transformers: token ids of fixed texts and chat template are the file's;
{report.check.words()}.
"""

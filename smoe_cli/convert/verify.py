"""Proof that a written folder holds what it should: every tensor's bytes, then logits on fixed text.

Matrix products on the CPU round by the address of their operands, so weights are copied out of a file's mapping before use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import transformers
from torch import Tensor, nn
from transformers.utils import logging

from smoe_cli.convert.progress import Advance
from smoe_cli.errors import Failure
from smoe_cli.families import Backbone, Checkpoint, open_checkpoint
from smoe_cli.model.shards import DTYPES, Entry
from smoe_cli.recipe.models import Recipe

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "2 + 2 = 4; 17, 256 and 1048576 are numbers.",
    "def add(a, b):\n    return a + b\n",
    "Größe, naïve, 光, 🙂",
)
"""What the logits are compared on."""

TOLERANCE = 1e-5
"""Largest difference of logits, as a share of the largest logit. Zero is usual: same weights, same kernels, float32."""

HEADROOM = 1.3
"""Memory that a model needs for its logits, as a multiple of its weights."""

_CHUNK = 1 << 24


@dataclass(frozen=True)
class Check:
    """What was compared. tokens, difference: logits, and their largest difference (absolute); no tokens: they were not, for
    the reason given. rounded: the half-precision type that the source's weights were rounded to before, if any; moved: the
    largest difference that this made to its logits."""

    tensors: int
    tokens: int = 0
    difference: float = 0.0
    reason: str | None = None
    rounded: str | None = None
    moved: float = 0.0

    def words(self) -> str:
        """One line for people."""
        tensors = f"{self.tensors:,} tensors read back, names, shapes and SHA-256 equal"
        if not self.tokens:
            return f"{tensors}; logits were not compared ({self.reason})"
        same = "equal bit for bit" if self.difference == 0 else f"equal within {self.difference:.3g}"
        if self.rounded is None:
            return f"{tensors}; logits of {self.tokens} tokens {same}"
        moved = f"moved its logits by up to {self.moved:.3g}" if self.moved else "did not change its logits"
        return (
            f"{tensors}; logits of {self.tokens} tokens {same} to those of the source with weights rounded to {self.rounded}; "
            f"rounding {moved}"
        )


def check_files(folder: Path, files: Mapping[str, list[Entry]], digests: Mapping[str, str], advance: Advance) -> Checkpoint:
    """Read the written files again: names, types, shapes and every byte. Raises Failure naming what differs."""
    checkpoint = open_checkpoint(str(folder))
    wanted = {entry.name: (entry.dtype, entry.shape, file) for file, entries in files.items() for entry in entries}
    found = {name: (entry.dtype, entry.shape, entry.file) for name, entry in checkpoint.entries.items()}
    if found != wanted:
        raise Failure(f"the written files do not hold what they should: {sorted(set(wanted.items()) ^ set(found.items()))[:3]}")
    for file in files:
        for name, digest in _hashes(folder / file, advance):
            if digest != digests[name]:
                raise Failure(f"{file}: `{name}` was written damaged", "is the disk sound?")
    return checkpoint


def _hashes(path: Path, advance: Advance) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) of every tensor of a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            file.seek(8 + length + start)
            digest = hashlib.sha256()
            left = end - start
            while left:
                chunk = file.read(min(left, _CHUNK))
                digest.update(chunk)
                left -= len(chunk)
                advance(len(chunk))
            yield name, digest.hexdigest()


def wants_logits(verify: Literal["logits", "tensors"] | None, parameters: int) -> str | None:
    """None if logits are to be compared, else the reason why not. parameters: of the model, which float32 takes 4 bytes for."""
    if verify == "tensors":
        return "as asked"
    needed, there = int(4 * parameters * HEADROOM), psutil.virtual_memory().available
    if verify is None and needed > there:
        return f"the model needs {needed / 1e9:.1f} GB of memory in float32, {there / 1e9:.1f} GB are free"
    return None


Logits = Callable[[Tensor], Tensor]


def encode(tokenizer: Any) -> list[Tensor]:
    """(1, S) ids of each text."""
    return [torch.tensor([tokenizer.encode(text)]) for text in TEXTS]


@torch.inference_mode()
def logits(model: Any, inputs: list[Tensor]) -> list[Tensor]:
    """(1, S, V) float32 for each input."""
    return [model(input_ids=input_ids, use_cache=False).logits.float() for input_ids in inputs]


def compare(ours: list[Tensor], theirs: list[Tensor]) -> tuple[int, float]:
    """Tokens and the largest difference. Raises Failure when it is above what rounding does."""
    tokens, difference = 0, 0.0
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        worst = float((a - b).abs().max())
        if not worst <= TOLERANCE * float(a.abs().max()):
            raise Failure(f"the written folder's logits differ from the model's by {worst:g} on {TEXTS[index]!r}")
        tokens, difference = tokens + a.shape[1], max(difference, worst)
    return tokens, difference


def check_logits(
    tensors: int, source: Any, inputs: list[Tensor], theirs: list[Tensor], dtype: str | None, rounding: Callable[[], None]
) -> Check:
    """The logits of a written folder, `theirs`, and those of the source after `rounding` its weights to the type `dtype` that
    was written (None: its own). Raises Failure as `compare` does."""
    exact = logits(source, inputs)
    if dtype in (None, "F32"):
        return Check(tensors, *compare(exact, theirs))
    rounding()
    ours = logits(source, inputs)
    moved = max(float((a - b).abs().max()) for a, b in zip(exact, ours, strict=True))
    return Check(tensors, *compare(ours, theirs), rounded=str(DTYPES[dtype]).removeprefix("torch."), moved=moved)


def detached(model: nn.Module) -> Any:
    """The model with its weights out of the mapping of its file, in evaluation mode."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone()
    return model.eval()


def loads(backbone: Backbone) -> str:
    """The auto class of transformers that opens a plain checkpoint of a family."""
    return "AutoModelForImageTextToText" if backbone.anatomy.multimodal else "AutoModelForCausalLM"


def opened(auto: str, folder: Path, recipe: Recipe) -> Any:
    """The folder as transformers opens it, in float32, with the recipe's kernels.

    Raises Failure when a tensor is missing, unknown or of another shape.
    """
    training = recipe.training
    with quiet():
        model, info = getattr(transformers, auto).from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation=training.attention,
            experts_implementation=training.experts,
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise Failure(f"the written folder has {kind.replace('_', ' ')}: {sorted(map(str, info[kind]))[:5]}")
    return detached(model)


@torch.no_grad()
def round_to(model: nn.Module, dtype: str | None) -> None:
    """Round the weights to a type (None: leave them), as a conversion to it does. Selection biases keep theirs."""
    if dtype is not None:
        for tensor in model.parameters():
            tensor.copy_(tensor.to(DTYPES[dtype]))


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bars."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

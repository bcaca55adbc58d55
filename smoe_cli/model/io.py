"""Model folders, which both this package and transformers' auto classes open (`smoe_cli.model.hf`).

    config.json         the recipe, and what its plan was compiled from: the checkpoint and the profile are not needed again
    smoe.yaml           the resolved recipe, for people
    *.safetensors       the weights, in one file, or in shards with an index
    tokenizer and processor files
    source/             the small files of the checkpoint that the model was made from, as they were
    manifest.json       size and hash of every file

Everything is accounted for in both directions: a tensor that is missing, unexpected, or of another shape is an error by name,
and a file whose bytes differ from the manifest's hash is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.families import Checkpoint, open_checkpoint
from smoe_cli.files import sha256
from smoe_cli.model.build import build_model
from smoe_cli.model.carried import carry, checkpoint_folder
from smoe_cli.model.hf_config import MODEL_TYPE, SymbioticConfig
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.shards import CODES, MAX_SHARD, Entry, ShardWriter, split
from smoe_cli.model.weights import saved_tensors
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.plan.source import Source
from smoe_cli.recipe import Loaded, Recipe, load

MANIFEST = "manifest.json"
VERSION = 1


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well: what stands under that name is never half written.

    A previous folder is moved aside for the exchange and then removed. A process that is killed leaves `.<name>.*` behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield work
        umask = os.umask(0)
        os.umask(umask)
        for path in [work, *work.rglob("*")]:
            # safetensors and mkdtemp make private files; these get the modes that any other file of the user has
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
            _sync(path)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            os.replace(folder, old / "old")
            os.replace(work, folder)
            shutil.rmtree(old)
        else:
            os.replace(work, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every file of a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    entries = {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
    (folder / MANIFEST).write_text(json.dumps({"version": VERSION, "files": entries}, indent=1), encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Raise UserError naming the first file that is missing or damaged."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder / MANIFEST}: missing", "the folder is incomplete, or not one that smoe wrote")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["version"], manifest["files"]
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST}: unreadable ({error})", "the folder is incomplete or damaged") from error
    if version != VERSION:
        raise UserError(
            f"{folder}: written in version {version} of the format; this smoe reads {VERSION}", "use the smoe that wrote it"
        )
    help = "copy the folder again, or use an earlier one"
    for name, (size, digest) in entries.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing, although the manifest lists it", help)
        if path.stat().st_size != size or sha256(path) != digest:
            raise UserError(f"{path}: damaged (its bytes are not those of the manifest)", help)
    unlisted = {str(p.relative_to(folder)) for p in folder.rglob("*.safetensors")} - entries.keys()
    if unlisted or not any(name.endswith(".safetensors") for name in entries):
        what = f"does not list {', '.join(sorted(unlisted))}" if unlisted else "lists no weights"
        raise UserError(f"{folder / MANIFEST}: {what}", "the folder is incomplete or damaged")


def own_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors that a file holds: every parameter once, and the buffers that do not follow from the recipe (selection
    biases). A tied head is the embedding."""
    return {name: tensor.detach() for name, tensor in saved_tensors(model).items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Load a safetensors file. Raises UserError if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})", "the file is damaged; copy it again") from error


def copy_into(model: torch.nn.Module, tensors: Mapping[str, Tensor], where: str, cast: bool = False) -> None:
    """Copy tensors into the model's by name; exactly these, in these shapes and types, or UserError.

    cast: other floating-point types are converted (half precision becomes float32 without loss).
    """
    own = own_tensors(model)
    problems = [f"`{n}` is missing" for n in own if n not in tensors]
    problems += [f"`{n}` is not a tensor of this model" for n in tensors if n not in own]
    problems += [
        f"`{n}` has shape {tuple(t.shape)}, the model needs {tuple(own[n].shape)}"
        for n, t in tensors.items()
        if n in own and t.shape != own[n].shape
    ]
    problems += [
        f"`{n}` is {t.dtype}, the model {own[n].dtype}"
        for n, t in tensors.items()
        if not cast and n in own and t.dtype != own[n].dtype
    ]
    problems += [f"`{n}` holds values that are not finite" for n, t in tensors.items() if not torch.isfinite(t).all()]
    _raise(problems, where)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def config_of(recipe: Recipe, plan: Plan, tokenizer: PreTrainedTokenizerFast, dtype: str) -> SymbioticConfig:
    """The config of a model folder. dtype: of the weights, as in a safetensors header."""
    backbone = plan.source.backbone
    text = backbone.text_config
    return SymbioticConfig(
        architectures=["SymbioticForCausalLM"],
        recipe=recipe.model_dump(mode="json"),
        source=plan.source.to_dict(),
        vocab_size=plan.vocab_size,
        hidden_size=backbone.hidden_size,
        num_hidden_layers=backbone.layers,
        num_attention_heads=text.get("num_attention_heads"),
        num_key_value_heads=text.get("num_key_value_heads"),
        max_position_embeddings=text.get("max_position_embeddings"),
        tie_word_embeddings=backbone.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=NAMES[dtype],
    )


NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Types of weights as a config writes them, by their name in a safetensors header."""


def write_companions(
    work: Path,
    recipe: Recipe,
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    resolved_recipe: str,
    dtype: str,
    origin: Path | None,
) -> None:
    """Everything of a model folder but the weights and the manifest. origin: where carried files come from."""
    (work / "smoe.yaml").write_text(resolved_recipe, encoding="utf-8")
    config_of(recipe, plan, tokenizer, dtype).save_pretrained(work)
    tokenizer.save_pretrained(work)
    # transformers writes other keys for a tokenizer that it has loaded; this is what it writes from then on
    read_tokenizer(str(work)).save_pretrained(work)
    if origin is not None:
        carry(origin, work)


def save_model(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    resolved_recipe: str,
    max_shard: int = MAX_SHARD,
) -> None:
    """Write a model folder atomically. max_shard: bytes of a file of weights."""
    tensors = own_tensors(model)
    entries = [Entry(name, CODES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()]
    origin = getattr(model, "carried_from", None) or checkpoint_folder(model.recipe)
    with atomic_folder(folder) as work:
        write_companions(work, model.recipe, model.plan, tokenizer, resolved_recipe, entries[0].dtype, origin)
        writer = ShardWriter(work, split(entries, max_shard))
        for name, tensor in tensors.items():
            writer.write(name, tensor)
        writer.close()
        write_manifest(work)


@dataclass(frozen=True)
class Opened:
    """A model folder whose weights have not been read yet."""

    folder: Path
    loaded: Loaded
    plan: Plan
    checkpoint: Checkpoint


def open_folder(folder: Path, check: bool = True) -> Opened:
    """Recipe, plan and tensor headers of a model folder. check: hash every file first.

    Raises UserError naming what is missing, damaged or in excess.
    """
    folder = Path(folder)
    if not (folder / "smoe.yaml").is_file():
        raise UserError(f"{folder}: not a model folder (no smoe.yaml)", "pass the folder `model` of a run directory")
    if check:
        check_manifest(folder)
    loaded = load(folder / "smoe.yaml")
    checkpoint = open_checkpoint(str(folder))
    if checkpoint.config.get("model_type") != MODEL_TYPE or not checkpoint.config.get("source"):
        raise UserError(f"{folder / 'config.json'}: not the config of a `{MODEL_TYPE}` model", "copy the folder again")
    try:
        source = Source.from_dict(checkpoint.config["source"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'}: its `source` cannot be read ({error})", "copy the file again") from error
    plan = compile_plan(loaded.recipe, source=source)
    _check_tensors(folder, plan, {name: entry.shape for name, entry in checkpoint.entries.items()})
    return Opened(folder, loaded, plan, checkpoint)


def _check_tensors(folder: Path, plan: Plan, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UserError unless a folder has exactly the tensors of its plan. Names inside a vision encoder from scratch vary with
    the version of transformers; the model itself says which it wants."""
    planned = {tensor.name: tensor.shape for tensor in plan.tensors if not tensor.name.startswith("vision.")}
    problems = [f"`{name}` is missing" for name in planned if name not in found]
    problems += [
        f"`{name}` is not a tensor of this model" for name in found if name not in planned and not name.startswith("vision.")
    ]
    problems += [
        f"`{name}` has shape {found[name]}, the model needs {shape}"
        for name, shape in planned.items()
        if found.get(name, shape) != shape
    ]
    _raise(problems, str(folder))


def _raise(problems: list[str], where: str) -> None:
    if problems:
        more = f" … and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(f"{where}: " + "; ".join(problems[:5]) + more, "the file does not belong to this recipe's model")


def load_model(folder: Path) -> tuple[SymbioticModel, PreTrainedTokenizerFast, Loaded, Plan]:
    """Read a model folder, in evaluation mode on the CPU, in float32 whatever the type of its files.

    Raises UserError naming what is missing, damaged or in excess.
    """
    opened = open_folder(folder)
    folder, loaded, plan = opened.folder, opened.loaded, opened.plan
    model = build_model(loaded.recipe, plan, weights=False)
    tensors: dict[str, Tensor] = {}
    for file in opened.checkpoint.files:
        tensors.update(read_tensors(folder / file))
    copy_into(model, tensors, str(folder / opened.checkpoint.files[0]), cast=True)
    model.carried_from = folder  # type: ignore[assignment]
    return model.eval(), read_tokenizer(str(folder)), loaded, plan

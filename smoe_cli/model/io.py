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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.families import Checkpoint, open_checkpoint
from smoe_cli.model.build import build_model
from smoe_cli.model.carried import carry, checkpoint_folder
from smoe_cli.model.folder import atomic_folder, check_manifest, write_manifest
from smoe_cli.model.hf_config import MODEL_TYPE, SymbioticConfig
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.shards import CODES, MAX_SHARD, Entry, ShardWriter, split
from smoe_cli.model.weights import saved_tensors
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.plan.source import Source
from smoe_cli.recipe import Loaded, Recipe, load


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


def copy_into(model: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the model's by name; exactly these, in these shapes and types, or UserError."""
    own = own_tensors(model)
    problems = _misfits({n: tuple(t.shape) for n, t in own.items()}, {n: tuple(t.shape) for n, t in tensors.items()})
    problems += [
        f"`{n}` is {t.dtype}, the model {own[n].dtype}" for n, t in tensors.items() if n in own and t.dtype != own[n].dtype
    ]
    _raise(problems, where)
    _fill(own, tensors, where)


def _fill(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy values that are finite; half precision becomes float32 without loss."""
    _raise([f"`{n}` holds values that are not finite" for n, t in tensors.items() if not torch.isfinite(t).all()], where)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _misfits(own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What keeps tensors of these shapes from being those of a model."""
    problems = [f"`{name}` is missing" for name in own if name not in found]
    problems += [f"`{name}` is not a tensor of this model" for name in found if name not in own]
    problems += [
        f"`{name}` has shape {found[name]}, the model needs {shape}"
        for name, shape in own.items()
        if found.get(name, shape) != shape
    ]
    return problems


def _raise(problems: list[str], where: str) -> None:
    if problems:
        more = f" … and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(f"{where}: " + "; ".join(problems[:5]) + more, "the file does not belong to this recipe's model")


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
    _check_recipe(folder, loaded.recipe, checkpoint.config.get("recipe"))
    plan = compile_plan(loaded.recipe, source=source)
    _check_tensors(folder, plan, {name: entry.shape for name, entry in checkpoint.entries.items()})
    return Opened(folder, loaded, plan, checkpoint)


def _check_recipe(folder: Path, recipe: Recipe, found: object) -> None:
    """Raise UserError unless the recipe in config.json, which transformers builds the model from, is that of smoe.yaml."""
    where = f"{folder / 'config.json'}: its `recipe`"
    try:
        other = Recipe.model_validate(found)
    except ValidationError as error:
        raise UserError(f"{where} cannot be read ({error.error_count()} errors)", "copy the file again") from error
    if other.model_dump(mode="json") != recipe.model_dump(mode="json"):
        raise UserError(f"{where} is not that of {folder / 'smoe.yaml'}", "one of the two was changed; copy the folder again")


def _check_tensors(folder: Path, plan: Plan, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UserError unless a folder has exactly the tensors of its plan. Names inside a vision encoder from scratch vary with
    the version of transformers; the model itself says which it wants."""
    planned = {tensor.name: tensor.shape for tensor in plan.tensors if not tensor.name.startswith("vision.")}
    _raise(_misfits(planned, {n: shape for n, shape in found.items() if not n.startswith("vision.")}), str(folder))


def load_model(folder: Path) -> tuple[SymbioticModel, PreTrainedTokenizerFast, Loaded, Plan]:
    """Read a model folder, in evaluation mode on the CPU, in float32 whatever the type of its files.

    Raises UserError naming what is missing, damaged or in excess.
    """
    opened = open_folder(folder)
    folder, loaded, plan = opened.folder, opened.loaded, opened.plan
    model = build_model(loaded.recipe, plan, weights=False)
    own = own_tensors(model)
    found = {name: entry.shape for name, entry in opened.checkpoint.entries.items()}
    _raise(_misfits({name: tuple(tensor.shape) for name, tensor in own.items()}, found), str(folder))
    for file in opened.checkpoint.files:  # one after the other: the model and one file are in memory
        _fill(own, read_tensors(folder / file), str(folder / file))
    model.carried_from = folder  # type: ignore[assignment]
    return model.eval(), read_tokenizer(str(folder)), loaded, plan

"""Model folders: `smoe.yaml` (the resolved recipe), `model.safetensors`, tokenizer files, `manifest.json`.

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
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.tokenizer import load_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.files import sha256
from smoe_cli.model.model import SymbioticModel, build_model
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.recipe import Loaded, load
from smoe_cli.recipe.models import PretrainedTokenizer

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
    """The tensors that a file holds: every parameter once; tied heads and buffers derived from the recipe are left out."""
    return {name: p.detach().contiguous() for name, p in model.named_parameters()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Load a safetensors file. Raises UserError if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})", "the file is damaged; copy it again") from error


def copy_into(model: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the model's parameters by name; exactly these, in these shapes, or UserError."""
    own = dict(model.named_parameters())
    problems = [f"`{n}` is missing" for n in own if n not in tensors]
    problems += [f"`{n}` is not a tensor of this model" for n in tensors if n not in own]
    problems += [
        f"`{n}` has shape {tuple(t.shape)}, the model needs {tuple(own[n].shape)}"
        for n, t in tensors.items()
        if n in own and t.shape != own[n].shape
    ]
    problems += [
        f"`{n}` is {t.dtype}, the model {own[n].dtype}" for n, t in tensors.items() if n in own and t.dtype != own[n].dtype
    ]
    problems += [f"`{n}` holds values that are not finite" for n, t in tensors.items() if not torch.isfinite(t).all()]
    if problems:
        more = f" … and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(f"{where}: " + "; ".join(problems[:5]) + more, "the file does not belong to this recipe's model")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def save_model(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    resolved_recipe: str,
) -> None:
    """Write a model folder atomically."""
    with atomic_folder(folder) as work:
        (work / "smoe.yaml").write_text(resolved_recipe, encoding="utf-8")
        save_file(own_tensors(model), work / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save_pretrained(work)
        # transformers writes other keys for a tokenizer that it has loaded; this is what it writes from then on
        _load_tokenizer(work).save_pretrained(work)
        write_manifest(work)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(PretrainedTokenizer(kind="pretrained", path=str(folder)))


def load_model(folder: Path) -> tuple[SymbioticModel, PreTrainedTokenizerFast, Loaded, Plan]:
    """Read a model folder, in evaluation mode on the CPU. Raises UserError naming what is missing, damaged or in excess."""
    folder = Path(folder)
    if not (folder / "smoe.yaml").is_file():
        raise UserError(f"{folder}: not a model folder (no smoe.yaml)", "pass the folder `model` of a run directory")
    check_manifest(folder)
    loaded = load(folder / "smoe.yaml")
    plan = compile_plan(loaded.recipe)
    model = build_model(loaded.recipe, plan)
    copy_into(model, read_tensors(folder / "model.safetensors"), str(folder / "model.safetensors"))
    tokenizer = _load_tokenizer(folder)
    return model.eval(), tokenizer, loaded, plan

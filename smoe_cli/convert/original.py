"""The way back: every expert returns to its place and order in a checkpoint of the family that the model was made from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from smoe_cli.convert.assembly import missing, original
from smoe_cli.convert.card import Facts, write_card
from smoe_cli.convert.options import Options, Report, check_new, new_folder
from smoe_cli.convert.plain import Written, write_plain
from smoe_cli.convert.reading import Reader
from smoe_cli.convert.source import left_out, unbuilt, weight_hashes
from smoe_cli.convert.verify import Check, check_logits, encode, loads, logits, opened, round_to, wants_logits
from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.model.backbone import receivers
from smoe_cli.model.carried import SOURCE, copy_processing, small_files, source_index
from smoe_cli.model.io import NAMES, Opened, load_model, open_folder
from smoe_cli.model.surgery import operate

README, SOURCE_README = "README.md", "README.source.md"


def to_original(source: Path, out: Path, options: Options) -> Report:
    """Write the checkpoint that the model folder `source` was made from to the new folder `out`, with the model's weights.

    Without training in between, and with its types kept, every tensor equals the checkpoint's bit for bit. Raises UserError
    when the model has parts that the family has no place for, Failure when the written folder is not what it should be.
    """
    check_new(out)
    model = open_folder(source)
    refuse(model)
    backbone, plan = model.plan.source.backbone, model.plan
    names = frozenset(model.checkpoint.entries)
    assembly = original(backbone, plan, names)
    if lost := missing(assembly):
        raise UserError(
            f"{source}: `{lost[0]}` of the original is not, or not wholly, in this model",
            "its recipe left experts out; `--to understanding` exports what is there",
        )
    with new_folder(out) as work:
        (work / "config.json").write_text(_dumped(backbone.config), encoding="utf-8")
        with Reader(model.checkpoint) as reader:
            written = write_plain(work, reader, backbone, assembly, options, source_index(source))
        _companions(model, work, written)
        check = _verified(model, work, written, options)
        used = {name for plain in assembly.values() for name in plain.sources}
        notes = unbuilt(backbone)
        if not (source / SOURCE).is_dir():
            notes.append("the checkpoint's own files are not in the folder: config and tokenizer are written anew")
        report = Report(
            target="original",
            family=backbone.family,
            parameters=written.parameters,
            nbytes=written.nbytes,
            files=len(written.files),
            check=check,
            left_out=left_out(model, used),
            notes=tuple(notes),
        )
        hashes = weight_hashes(source)
        write_card(work / README, Facts(model.loaded, plan, report, hashes, loads(backbone)))
    return report


def refuse(model: Opened) -> None:
    """Raise UserError when the family has no place for parts of the model, or the model lacks parts of the family."""
    spec, where = model.loaded.recipe.model, model.folder
    family = model.plan.source.backbone.family
    if spec.backbone.scratch is not None:
        raise UserError(f"{where}: was made from scratch, there is no original", "`--to understanding` exports what is there")
    if spec.backbone.upcycle is not None:
        raise UserError(
            f"{where}: was upcycled from a dense `{family}`, which has no experts to go back to",
            "the dense checkpoint itself is unchanged; `--to symbiotic` is the form that upcycled models have",
        )
    for group in model.plan.groups:
        if group.mounted_from is not None:
            raise UserError(
                f"{where}: the experts of `{group.name}` are copies of `{group.mounted_from}`'s, and a `{family}` has no place "
                "for them",
                "`--to understanding` exports the group that serves text",
            )
    if spec.shared == "none" and model.plan.source.backbone.has_shared:
        raise UserError(f"{where}: its recipe left the shared experts out (`shared: none`), so the original cannot be restored")


def _dumped(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def _companions(model: Opened, work: Path, written: Written) -> None:
    """Config, tokenizer, processors and what else the source had besides its weights."""
    kept = model.folder / SOURCE
    if kept.is_dir():
        for path in small_files(kept):
            if path.name.endswith(".safetensors.index.json"):
                continue  # written with the weights
            shutil.copyfile(path, work / (SOURCE_README if path.name == README else path.name))
    else:
        read_tokenizer(str(model.folder)).save_pretrained(work)
        copy_processing(model.folder, work)
    config = json.loads((work / "config.json").read_text(encoding="utf-8"))
    if _retyped(config, NAMES[written.dtype]):
        (work / "config.json").write_text(_dumped(config), encoding="utf-8")


def _retyped(config: dict[str, Any], dtype: str) -> bool:
    """Make a config say the type that the weights have; whether that changed it. Both keys that transformers reads."""
    changed = False
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) not in (None, dtype) and isinstance(part[key], str):
                part[key], changed = dtype, True
    return changed


def _verified(model: Opened, work: Path, written: Written, options: Options) -> Check:
    """The folder as transformers opens it, split as the plan says, gives the logits of the model."""
    tensors = len(written.checkpoint.entries)
    plan = model.plan
    reason = wants_logits(options.verify, plan.parameters.total)
    if reason is not None:
        return Check(tensors, reason=reason)
    recipe = model.loaded.recipe
    inputs = encode(read_tokenizer(str(model.folder)))  # `work` has none where the source had none
    plain = opened(loads(plan.source.backbone), work, recipe)
    theirs = logits(operate(plain, plan, receivers(recipe)), inputs)
    del plain
    split = load_model(model.folder)[0].backbone
    return check_logits(tensors, split, inputs, theirs, options.dtype, lambda: round_to(split, options.dtype))

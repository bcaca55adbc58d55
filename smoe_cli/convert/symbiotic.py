"""From a checkpoint in Hugging Face layout to a model folder, as a recipe says, without training or building the model.

The plan says for every tensor where its first value comes from; it is read from the checkpoint's files and written to the
folder's one expert at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from pathlib import Path

import torch
from torch import nn

from smoe_cli.convert.card import Facts, write_card
from smoe_cli.convert.options import Options, Report, check_new, new_folder
from smoe_cli.convert.progress import bar
from smoe_cli.convert.source import unbuilt, weight_hashes
from smoe_cli.convert.values import fresh_parts, parts
from smoe_cli.convert.verify import Check, check_files, check_logits, encode, logits, opened, wants_logits
from smoe_cli.data.special import tokenizer_of
from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import Failure, UserError
from smoe_cli.families import Checkpoint
from smoe_cli.model.build import build_model, check_against_plan
from smoe_cli.model.folder import write_manifest
from smoe_cli.model.hf import SymbioticForCausalLM
from smoe_cli.model.hf_config import MODEL_TYPE, SymbioticConfig
from smoe_cli.model.io import write_companions
from smoe_cli.model.shards import DTYPES, MAX_SHARD, Entry, ShardWriter, common, joint, split
from smoe_cli.model.weights import Reader, open_backbone, saved_tensors
from smoe_cli.plan import Plan, PlanError, compile_plan
from smoe_cli.recipe import Loaded, load


def to_symbiotic(recipe: Path, out: Path, options: Options, checkpoint: str | None = None) -> Report:
    """Write the model of a recipe, with its first weights, to the new folder `out`.

    checkpoint: folder or hub id, in the place of the one that the recipe names. Raises UserError when the recipe and the
    checkpoint do not fit together or `out` is not new, and Failure when the written folder is not what it should be.
    """
    check_new(out)
    loaded = _loaded(recipe, checkpoint)
    try:
        plan = compile_plan(loaded.recipe)
    except PlanError as error:
        raise loaded.error(error.problems) from None
    source = open_backbone(loaded.recipe, plan)
    tokenizer = tokenizer_of(loaded.recipe, plan)
    fresh = fresh_parts(loaded.recipe, plan)
    entries = _entries(plan, source, fresh, options.dtype)
    files = split(entries, options.max_shard or MAX_SHARD)
    dtype = common(source.entries.values())
    total = sum(entry.nbytes for entry in entries)
    with new_folder(out) as work:
        write_companions(work, loaded.recipe, plan, tokenizer, loaded.resolved_yaml(), options.dtype or dtype, source.folder)
        _check_names(work, plan, entries)
        writer = ShardWriter(work, files)
        planned = {tensor.name: tensor for tensor in plan.tensors}
        with bar("writing", total, options.progress) as advance, Reader(source, plan.source.backbone) as reader:
            for entry in entries:
                value = [fresh[entry.name]] if entry.name in fresh else parts(planned[entry.name], plan, loaded.recipe, reader)
                for rows in value:
                    advance(writer.write(entry.name, rows))
        writer.close()
        with bar("checking", total, options.progress) as advance:
            check_files(work, files, writer.digests, advance)
        check = _verified(loaded, plan, work, entries, options)
        report = Report(
            target="symbiotic",
            family=plan.source.backbone.family,
            parameters=sum(entry.numel for entry in entries),
            nbytes=total,
            files=len(files),
            check=check,
            left_out=_left_out(loaded, plan),
            notes=_notes(plan, fresh),
        )
        hashes = weight_hashes(source.folder, options.progress)
        write_card(work / "README.md", Facts(loaded, plan, report, hashes, "AutoModelForCausalLM"))
        write_manifest(work)
    return report


def _loaded(path: Path, checkpoint: str | None) -> Loaded:
    """The recipe, with another checkpoint if one is given."""
    loaded = load(path)
    model = loaded.recipe.model
    if model.backbone.scratch is not None:
        raise UserError(
            f"{path}: its backbone is made from scratch, there is nothing to convert", "`smoe train` builds and trains it"
        )
    if checkpoint is None:
        return loaded
    if (Path(checkpoint) / "smoe.yaml").is_file() or (Path(checkpoint) / "model" / "smoe.yaml").is_file():
        raise UserError(f"{checkpoint}: is a `{MODEL_TYPE}` model already", "SRC is a checkpoint in Hugging Face layout")
    spec = model.backbone
    if spec.pretrained is not None:
        spec = spec.model_copy(update={"pretrained": spec.pretrained.model_copy(update={"path": checkpoint, "revision": None})})
    elif spec.upcycle is not None:
        spec = spec.model_copy(update={"upcycle": spec.upcycle.model_copy(update={"from_": checkpoint, "revision": None})})
    changed = loaded.recipe.model_copy(update={"model": model.model_copy(update={"backbone": spec})})
    return replace(loaded, recipe=changed)


def _entries(plan: Plan, source: Checkpoint, fresh: dict[str, torch.Tensor], dtype: str | None) -> list[Entry]:
    """Every tensor of the folder. dtype: None keeps that of the checkpoint; selection biases always keep theirs, as in
    transformers; what is fresh gets that of most weights."""
    backbone, most = plan.source.backbone, common(source.entries.values())
    entries = []
    for tensor in plan.tensors:
        if tensor.name.split(".")[0] != "backbone":
            continue
        own, fixed = most, False
        if tensor.origin is not None and tensor.origin.names:
            own = joint(source.entries[slot.disk].dtype for name in tensor.origin.names for slot in backbone.layout.slots[name])
            fixed = backbone.part(tensor.origin.names[0]).kind == "bias"
        entries.append(Entry(tensor.name, own if dtype is None or fixed else dtype, tensor.shape))
    return entries + [Entry(name, dtype or most, tuple(value.shape)) for name, value in fresh.items()]


def _check_names(work: Path, plan: Plan, entries: Iterable[Entry]) -> None:
    """The model that the folder's config describes has exactly these tensors. It is built without memory for its weights.

    Raises UserError when the checkpoint's tensors are not those of its config.
    """
    with torch.device("meta"):
        model: nn.Module = SymbioticForCausalLM(SymbioticConfig.from_pretrained(work))
    check_against_plan(model, plan)
    built = {name: tuple(tensor.shape) for name, tensor in saved_tensors(model).items()}
    written = {entry.name: entry.shape for entry in entries}
    if built != written:
        differing = sorted(set(built.items()) ^ set(written.items()))[:5]
        raise Failure(f"the converted tensors are not the model's: {differing}", "this is a bug in smoe; please report it")


def _left_out(loaded: Loaded, plan: Plan) -> dict[str, int]:
    """Parameters of the checkpoint that have no place in the model: shared experts, with `shared: none`."""
    backbone = plan.source.backbone
    used = {name for tensor in plan.tensors if tensor.origin is not None for name in tensor.origin.names}
    parts: dict[str, int] = {}
    for name, shape in backbone.tensors.items():
        if name not in used:
            kind = backbone.part(name).kind
            parts[kind] = parts.get(kind, 0) + prod(shape)
    return parts


def _notes(plan: Plan, fresh: dict[str, torch.Tensor]) -> tuple[str, ...]:
    notes = []
    if fresh:
        numel = sum(value.numel() for value in fresh.values())
        names = sorted({name.split(".")[0] for name in fresh})
        notes.append(f"{numel:,} parameters are new, drawn from the recipe's seed: {', '.join(names)}")
    return (*notes, *unbuilt(plan.source.backbone))


def _verified(loaded: Loaded, plan: Plan, work: Path, entries: list[Entry], options: Options) -> Check:
    """The folder as transformers opens it gives the logits of the model that training would begin with."""
    reason = wants_logits(options.verify, plan.parameters.total)
    if reason is not None:
        return Check(len(entries), reason=reason)
    inputs = encode(read_tokenizer(str(work)))
    theirs = logits(opened("AutoModelForCausalLM", work, loaded.recipe), inputs)
    model = build_model(loaded.recipe, plan).eval()
    own = saved_tensors(model)

    @torch.no_grad()
    def rounding() -> None:
        for entry in entries:
            own[entry.name].copy_(own[entry.name].to(DTYPES[entry.dtype]))

    halves = [entry for entry in entries if entry.dtype != "F32"]
    return check_logits(len(entries), model.backbone, inputs, theirs, common(halves) if halves else None, rounding)

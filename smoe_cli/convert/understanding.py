"""Export of what serves text: a plain checkpoint of the backbone's own family, with the experts of the group that serves text.

A multimodal family keeps its vision encoder and sees images with it; one that has a pool of experts for images keeps the group
that serves them, too.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PretrainedConfig

from smoe_cli.convert.assembly import Plain, only
from smoe_cli.convert.card import Facts, write_card
from smoe_cli.convert.limits import part_limits
from smoe_cli.convert.options import Options, Report, check_new, new_folder
from smoe_cli.convert.plain import Written, write_plain
from smoe_cli.convert.reading import Reader
from smoe_cli.convert.source import left_out, weight_hashes
from smoe_cli.convert.verify import Check, check_logits, encode, loads, logits, opened, round_to, wants_logits
from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import Failure, UserError
from smoe_cli.model.backbone import backbone_config
from smoe_cli.model.carried import copy_processing
from smoe_cli.model.io import NAMES, Opened, load_model, open_folder
from smoe_cli.plan import GroupPlan, Plan
from smoe_cli.recipe.models import Shared

SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def to_understanding(source: Path, out: Path, options: Options) -> Report:
    """Write the export of the model folder `source` to the new folder `out`, whole or not at all.

    Raises UserError when `out` is not new or the family cannot hold what serves text, and Failure when the written folder does
    not give the model's logits.
    """
    check_new(out)
    model = open_folder(source)
    backbone, plan = model.plan.source.backbone, model.plan
    refuse(model)
    groups = kept_groups(plan)
    assembly = selection(model, groups)
    tokenizer = read_tokenizer(str(source))
    with new_folder(out) as work:
        config = plain_config(model, groups, tokenizer)
        config.save_pretrained(work)
        with Reader(model.checkpoint) as reader:
            written = write_plain(work, reader, backbone, assembly, options)
        config.dtype = NAMES[written.dtype]
        config.architectures = [_class_name(backbone.family, config, loads(backbone))]
        config.save_pretrained(work)
        tokenizer.save_pretrained(work)
        copy_processing(source, work)
        if not (work / "generation_config.json").exists():
            GenerationConfig(do_sample=False, **_tokens(tokenizer)).save_pretrained(work)
        check = _verified(model, work, written, tokenizer, options)
        used = {name for plain in assembly.values() for name in plain.sources}
        report = Report(
            target="understanding",
            family=backbone.family,
            parameters=written.parameters,
            nbytes=written.nbytes,
            files=len(written.files),
            check=check,
            left_out=left_out(model, used),
            notes=_notes(plan, groups),
        )
        write_card(work / "README.md", Facts(model.loaded, plan, report, weight_hashes(source), loads(backbone)))
    return report


def refuse(model: Opened) -> None:
    """Raise UserError when the family's own class cannot do what the model does for text."""
    spec, where = model.loaded.recipe.model, model.folder
    family = model.plan.source.backbone.family
    if spec.backbone.upcycle is not None:
        raise UserError(
            f"{where}: a plain `{family}` is dense and has no place for the experts of an upcycled model",
            "load it with AutoModelForCausalLM after `import smoe_cli`",
        )
    if any(model.plan.promoted):
        raise UserError(
            f"{where}: a plain `{family}` has no experts that are always on, as the promoted ones of this model are",
            "load it with AutoModelForCausalLM after `import smoe_cli`, or go back with `--to original`",
        )


def kept_groups(plan: Plan) -> dict[int, GroupPlan]:
    """{pool of the family: the group whose experts it gets}. Raises UserError when nothing serves text, or a family with a pool
    for each modality would be left with pools of different sizes."""
    if "text" not in plan.group_of:
        raise UserError("no expert group of this model serves text, so there is nothing to export")
    text = plan.groups[plan.group_of["text"]]
    anatomy = plan.source.backbone.anatomy
    if len(anatomy.pools) == 1:
        return {0: text}
    kept = {text.pool: text}
    for pool, modalities in enumerate(anatomy.pool_modalities):
        for modality in modalities:
            group = plan.groups[plan.group_of[modality]] if modality in plan.group_of else None
            if group is not None and group.pool == pool:
                kept[pool] = group
    if len(kept) < len(anatomy.pools):
        lost = ", ".join(m for pool, ms in enumerate(anatomy.pool_modalities) if pool not in kept for m in ms)
        raise UserError(f"no expert group of this model fills the family's experts for {lost}")
    if len({group.size for group in kept.values()}) > 1:
        sizes = ", ".join(f"`{group.name}` {group.size}" for group in kept.values())
        raise UserError(
            f"a plain `{plan.source.backbone.family}` has as many experts for text as for images, this model has {sizes}",
            "load it with AutoModelForCausalLM after `import smoe_cli`",
        )
    return kept


def selection(model: Opened, groups: dict[int, GroupPlan]) -> dict[str, Plain]:
    """Every tensor of the plain model. Shared experts that text does not pass become zeros, which add nothing."""
    backbone, shared = model.plan.source.backbone, model.loaded.recipe.model.shared
    assembly = only(backbone, groups, frozenset(model.checkpoint.entries))
    skipped = shared == "none" or (isinstance(shared, Shared) and "text" not in shared.modalities)
    for name, plain in assembly.items():
        part = backbone.part(name)
        whole = shared == "none" and part.kind in ("shared", "shared_gate")
        if whole or (skipped and part.kind == "shared" and part.tail.startswith("down_proj")):
            assembly[name] = Plain(plain.shape)
        elif plain.whole is None and plain.rows is None:
            raise Failure(f"`{name}` of a plain `{backbone.family}` has no source in this model", "this is a bug in smoe")
    return assembly


def plain_config(model: Opened, groups: dict[int, GroupPlan], tokenizer: Any) -> PretrainedConfig:
    """The backbone's config with the number of experts that is left and with a cache.

    Raises UserError when the family's limit to groups of experts cannot say what this model does.
    """
    backbone = model.plan.source.backbone
    config = copy.deepcopy(backbone_config(backbone.config))
    text = config.get_text_config()
    setattr(text, backbone.anatomy.num_experts, next(iter(groups.values())).size)
    if limits := part_limits(backbone, groups[0]):
        for key, value in limits.items():
            setattr(text, key, value)
    for part in (config, text):
        part.use_cache = True
    if model.loaded.recipe.model.backbone.scratch is not None:
        for key, token in _tokens(tokenizer).items():
            setattr(config, key, token)
    return config


def _notes(plan: Plan, groups: dict[int, GroupPlan]) -> tuple[str, ...]:
    experts = plan.source.backbone.pool_sizes
    notes = [
        f"experts of group `{group.name}`: {group.size} of {experts[pool]} a layer, renumbered from 0"
        for pool, group in groups.items()
    ]
    vit = plan.groups[plan.group_of["vit"]] if "vit" in plan.group_of else None
    if vit is not None and vit not in groups.values():
        notes.append(f"group `{vit.name}`, which serves images in this model, is left out: images are read by the text group")
    return tuple(notes)


def _tokens(tokenizer: Any) -> dict[str, int | None]:
    return {token: getattr(tokenizer, token) for token in SPECIAL_TOKENS}


def _class_name(family: str, config: PretrainedConfig, auto: str) -> str:
    """The name of the family's own class."""
    import transformers

    return str(getattr(transformers, auto)._model_mapping[type(config)].__name__)


def _verified(model: Opened, work: Path, written: Written, tokenizer: Any, options: Options) -> Check:
    """The folder as transformers opens it gives the logits of the model for text, and its tokenizer the same tokens."""
    reader = read_tokenizer(str(work))
    inputs = encode(tokenizer)
    if any(not torch.equal(a, b) for a, b in zip(inputs, encode(reader), strict=True)):
        raise Failure("the written tokenizer encodes text differently")
    tensors = len(written.checkpoint.entries)
    reason = wants_logits(options.verify, model.plan.parameters.total)
    if reason is not None:
        return Check(tensors, reason=reason)
    plain = opened(loads(model.plan.source.backbone), work, model.loaded.recipe)
    theirs = logits(plain, inputs)
    del plain
    split = load_model(model.folder)[0].backbone
    return check_logits(tensors, split, inputs, theirs, options.dtype, lambda: round_to(split, options.dtype))

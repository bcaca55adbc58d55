"""Export of what serves text: a plain transformers checkpoint of the backbone's own family.

Only the experts and the router of the group that serves text are kept, with everything that all tokens share. The written
folder is opened again with plain transformers, and its logits are compared with the model's, before it gets its name.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from smoe_cli.convert.card import Provenance, card
from smoe_cli.convert.verify import Check, verify
from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.provenance import versions
from smoe_cli.eval.targets import check_folder, writing
from smoe_cli.files import sha256
from smoe_cli.model.anatomy import Anatomy, anatomy_of
from smoe_cli.model.io import atomic_folder, load_model
from smoe_cli.model.model import SymbioticModel
from smoe_cli.plan import GroupPlan, Plan

BACKBONE = "backbone."
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Selection:
    """kept: tensors under the names of the family's own model; dropped: names of the others in ours."""

    kept: dict[str, Tensor]
    dropped: tuple[str, ...]


def export_understanding(source: Path, out: Path) -> Provenance:
    """Write the export of the model folder `source` to the new folder `out`, whole or not at all.

    Raises UserError when `out` exists and is not empty, when it cannot be written or when the model has no text group, and
    Failure when the written folder does not give the model's logits.
    """
    if os.path.exists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty", "choose a new folder")
    check_folder(out.absolute().parent, out)
    model, tokenizer, loaded, plan = load_model(source)
    group = text_group(plan)
    selection = select(model, group)
    plain = build(model, selection, group, tokenizer)
    with writing(out), atomic_folder(out) as work, quiet():
        plain.save_pretrained(work)
        tokenizer.save_pretrained(work)
        check: Check = verify(work, model, tokenizer, plain.state_dict())
        provenance = Provenance(
            recipe=loaded.recipe.name,
            family=model.backbone.config.model_type,
            source_sha256=sha256(source / "model.safetensors"),
            group=group,
            experts=sum(other.size for other in plan.groups),
            kept=sum(tensor.numel() for tensor in plain.parameters()),
            dropped={name: parameter.numel() for name, parameter in model.named_parameters() if name in set(selection.dropped)},
            check=check,
            versions=versions(),
        )
        readme = work / "README.md"
        readme.write_text(card(provenance), encoding="utf-8")
        for file in work.iterdir():  # safetensors makes files that only their owner can read
            file.chmod(readme.stat().st_mode)
    return provenance


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


def text_group(plan: Plan) -> GroupPlan:
    """The expert group that serves text. Raises UserError when none does."""
    if "text" not in plan.group_of:
        raise UserError("no expert group of this model serves text, so there is nothing to export")
    return plan.groups[plan.group_of["text"]]


def select(model: SymbioticModel, group: GroupPlan) -> Selection:
    """Sort every tensor of the model into kept (renamed) and dropped."""
    anatomy = anatomy_of(model.backbone.config.model_type)
    kept: dict[str, Tensor] = {}
    dropped: list[str] = []
    for name, parameter in model.named_parameters():
        plain = plain_name(name, group.name, anatomy)
        if plain is None:
            dropped.append(name)
        elif "text" not in model.recipe.model.shared.modalities and plain.endswith(f"{anatomy.shared}.down_proj.weight"):
            kept[plain] = torch.zeros_like(parameter)  # text skips the shared experts, which the family's own block cannot
        else:
            kept[plain] = parameter.detach()
    return Selection(kept, tuple(dropped))


def plain_name(name: str, group: str, anatomy: Anatomy) -> str | None:
    """The name of one of our tensors in the family's own model; None for what serves other groups, images and latents.

    `backbone.model.layers.0.mlp.router.text.weight` → `model.layers.0.mlp.gate.weight`.
    """
    if not name.startswith(BACKBONE):
        return None
    name = name.removeprefix(BACKBONE)
    for ours, theirs in (("router", anatomy.router), ("experts", anatomy.experts)):
        before, found, after = name.partition(f".{anatomy.block}.{ours}.")
        if found:
            owner, _, tensor = after.partition(".")
            return f"{before}.{anatomy.block}.{theirs}.{tensor}" if owner == group else None
    return name


def build(model: SymbioticModel, selection: Selection, group: GroupPlan, tokenizer: Any) -> PreTrainedModel:
    """The family's own model with the kept tensors. Raises Failure unless they are exactly its parameters."""
    anatomy = anatomy_of(model.backbone.config.model_type)
    config = plain_config(model.backbone.config, anatomy, group, tokenizer)
    training = model.recipe.training
    plain = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=training.attention, experts_implementation=training.experts
    )
    own = dict(plain.named_parameters())
    if problems := [*_differences(own, selection.kept)]:
        raise Failure(f"the export does not fit {type(plain).__name__}: {'; '.join(problems[:5])}", "this is a bug in smoe")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(selection.kept[name])
    tokens = {token: getattr(tokenizer, token) for token in SPECIAL_TOKENS}
    plain.generation_config = GenerationConfig(do_sample=False, **tokens)
    return plain.eval()


def plain_config(config: PretrainedConfig, anatomy: Anatomy, group: GroupPlan, tokenizer: Any) -> PretrainedConfig:
    """The backbone's config with the number of experts that is left, the tokenizer's special tokens, and a cache."""
    plain = copy.deepcopy(config)
    setattr(plain, anatomy.num_experts, group.size)
    plain.use_cache = True
    for token in SPECIAL_TOKENS:
        setattr(plain, token, getattr(tokenizer, token))
    return plain


def _differences(own: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> list[str]:
    missing = [f"`{name}` is missing" for name in own if name not in kept]
    excess = [f"`{name}` has no place" for name in kept if name not in own]
    reshaped = [f"`{name}` has another shape" for name in own if name in kept and own[name].shape != kept[name].shape]
    return missing + excess + reshaped

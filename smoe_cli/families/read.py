"""From a checkpoint to a backbone, with every check of its parts that needs no weights."""

from __future__ import annotations

import re

from smoe_cli.errors import UserError
from smoe_cli.families.anatomy import anatomy_of
from smoe_cli.families.backbone import Backbone, integer, text_config
from smoe_cli.families.checkpoint import FLOATS, Checkpoint, same_bytes
from smoe_cli.families.fit import check_experts, check_layers, check_names
from smoe_cli.families.layout import Layout

HEAD = "lm_head.weight"
_FREQUENCIES = "rotary_emb.inv_freq"
"""Old files hold it in every layer; it follows from the config."""


def read_backbone(checkpoint: Checkpoint) -> Backbone:
    """What a checkpoint holds. Raises UserError when its family is not supported or its parts do not fit together."""
    try:
        return _read(checkpoint)
    except UserError as error:
        raise UserError(f"{checkpoint.folder}: {error.message}", error.help) from error


def _read(checkpoint: Checkpoint) -> Backbone:
    config = checkpoint.config
    if "model_type" not in config:
        raise UserError("config.json has no `model_type`", "it should be the config of a transformers model")
    family = str(config["model_type"])
    anatomy = anatomy_of(family)
    text = text_config(config)
    left_out = _left_out(checkpoint, integer(text, "num_hidden_layers"))
    shapes = {name: entry.shape for name, entry in checkpoint.entries.items() if name not in left_out}
    for name in shapes:
        if checkpoint.entries[name].dtype not in FLOATS:
            raise UserError(f"`{name}` has type {checkpoint.entries[name].dtype}", f"weights are read in {', '.join(FLOATS)}")
    experts = integer(text, anatomy.num_experts) if len(anatomy.pools) > 1 else 0
    layout = Layout.of_files(shapes, anatomy, experts, integer(text, "hidden_size"))
    embedding = f"{anatomy.decoder}.embed_tokens.weight"
    if embedding not in layout.slots or len(shapes[layout.slots[embedding][0].disk]) != 2:
        raise UserError(f"lacks `{embedding}`", f"is it a `{family}` model with its output head?")
    tied = _tied(checkpoint, layout.slots[embedding][0].disk)
    tensors = {name: layout.shape(name, shapes) for name in layout.slots if not (tied and name == HEAD)}
    modules = tuple(dict.fromkeys(left_out.values()))
    backbone = Backbone(family, config, tensors, layout.stacked, layout.swap, layout.hub, modules, checkpoint.sha256)
    check_names(backbone)
    check_layers(backbone)
    check_experts(backbone)
    for name in tensors:
        if set(backbone.layout.slots[name]) != set(layout.slots[name]):
            raise UserError(
                f"`{layout.slots[name][-1].disk}` is not a name that files of `{family}` have next to the others",
                "write the checkpoint again with transformers: from_pretrained, then save_pretrained",
            )
    return backbone


def _left_out(checkpoint: Checkpoint, layers: int) -> dict[str, str]:
    """{name on disk of a tensor that transformers does not build: the module to report}.

    Multi-token prediction is a module `mtp`, or a layer after the last one that holds `eh_proj`, the map of two hidden
    states to one (DeepSeek-V3, arXiv 2412.19437, section 2.2).
    """
    found = {}
    path = re.compile(r"(.+\.layers\.(\d+))\..+")
    for name in checkpoint.entries:
        match = path.fullmatch(name)
        if name.startswith("mtp."):
            found[name] = "mtp"
        elif name.endswith(f".{_FREQUENCIES}"):
            found[name] = _FREQUENCIES
        elif match and int(match[2]) >= layers and f"{match[1]}.eh_proj.weight" in checkpoint.entries:
            found[name] = match[1]
    return found


def _tied(checkpoint: Checkpoint, embedding: str) -> bool:
    """Whether the head is the embedding. A file may hold it twice, if both are equal."""
    says, has = checkpoint.config.get("tie_word_embeddings"), HEAD in checkpoint.entries
    if says is None:
        return not has
    if says and has and not same_bytes(checkpoint, embedding, HEAD):
        raise UserError(
            f"config.json says `tie_word_embeddings: true`, but `{HEAD}` differs from `{embedding}`",
            "set it to false to keep the head that the files hold",
        )
    if not says and not has:
        raise UserError(
            f"lacks `{HEAD}`, and config.json says `tie_word_embeddings: false`",
            "set it to true if the head is the embedding; otherwise the checkpoint is incomplete, copy it again",
        )
    return bool(says)

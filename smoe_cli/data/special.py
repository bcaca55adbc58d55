"""The tokens that frame documents and images, and how a tokenizer gets those that it lacks.

A model from scratch has all five of them: what its tokenizer lacks is added. A pretrained backbone keeps its vocabulary: its
embedding never grows. There

    pad        is the tokenizer's own, or the end token: it only fills places that nothing looks at
    bos        begins a document exactly if the tokenizer itself puts it in front of a text (`bytes`: always); so Qwen's
               documents begin with their first word, as that model has always seen them
    eos        is the tokenizer's own, or the one that the checkpoint's config names, or `<eos>` in an unused row
    image      are `image_tokens` of the recipe, or those that the checkpoint's config names (vision_start_token_id and so
    image_end  on), or `<image>` and `</image>` in unused rows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smoe_cli.data.tokenizer import EOS, IMAGE, IMAGE_END, bytes_tokenizer, load_tokenizer, read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.families import Backbone
from smoe_cli.recipe.models import BytesTokenizer, Model, PretrainedTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.plan import Plan
    from smoe_cli.recipe.models import Recipe


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the tokens that frame documents and images. bos: None if documents begin without one. image, image_end: None in a
    model that holds no images."""

    pad: int
    bos: int | None
    eos: int
    image: int | None
    image_end: int | None


def tokenizer_of(recipe: Recipe, plan: Plan) -> PreTrainedTokenizerFast:
    """The tokenizer of a recipe's model, complete. Without one in the recipe: the checkpoint's own, or bytes from scratch.

    Raises UserError when it cannot be loaded, or needs more rows of the embedding than the backbone has.
    """
    model = recipe.model
    spec, location = model.tokenizer, model.backbone.checkpoint
    if location is None:
        return load_tokenizer(spec or BytesTokenizer(kind="bytes"))
    if isinstance(spec, BytesTokenizer):
        tokenizer = bytes_tokenizer()
    elif spec is not None:
        tokenizer = read_tokenizer(spec.path)
    else:
        tokenizer = read_tokenizer(*location)
    _complete(tokenizer, model, plan.source.backbone)
    check_fits(tokenizer, recipe, plan)
    return tokenizer


def special_ids(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, plan: Plan) -> SpecialIds:
    """Ids of the special tokens of a model's tokenizer. Raises UserError when one is missing."""
    model = recipe.model
    bos = tokenizer.bos_token_id
    if model.backbone.scratch is None and not isinstance(model.tokenizer, BytesTokenizer) and not _begins_with_bos(tokenizer):
        bos = None
    frame = _frame(tokenizer, model, plan) if _holds_images(model) else (None, None)
    ids = SpecialIds(tokenizer.pad_token_id, bos, tokenizer.eos_token_id, *frame)
    missing = [name for name in ("pad", "eos") if getattr(ids, name) is None]
    if model.backbone.scratch is not None and bos is None:
        missing.append("bos")
    if missing:
        raise UserError(f"the tokenizer has no special token for: {', '.join(missing)}", "load it with tokenizer_of")
    return ids


def check_fits(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, plan: Plan) -> None:
    """Raise UserError if the tokenizer has ids beyond the model's embedding."""
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed <= plan.vocab_size:
        return
    help = f"set model.backbone.scratch.vocab_size to at least {needed}"
    if recipe.model.backbone.scratch is None:
        help = "a pretrained embedding never grows: use the checkpoint's own tokenizer"
        if plan.vocab_size >= needed - 2 and _holds_images(recipe.model) and _chosen(recipe.model) is None:
            help = "a pretrained embedding never grows: name two tokens of its vocabulary with `model.tokenizer.image_tokens`"
    raise UserError(f"the tokenizer has {needed} tokens with the special ones, the model's vocabulary {plan.vocab_size}", help)


def _complete(tokenizer: PreTrainedTokenizerFast, model: Model, backbone: Backbone) -> None:
    """Give a tokenizer for a pretrained backbone its end, padding and image tokens."""
    if tokenizer.eos_token is None:
        named = _first(backbone.config.get("eos_token_id", backbone.text_config.get("eos_token_id")))
        token = None if named is None else tokenizer.convert_ids_to_tokens(named)
        tokenizer.add_special_tokens({"eos_token": token or EOS})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if _holds_images(model) and _chosen(model) is None and _own_frame(model, backbone) is None:
        tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE, IMAGE_END]}, replace_extra_special_tokens=False)


def _frame(tokenizer: PreTrainedTokenizerFast, model: Model, plan: Plan) -> tuple[int, int]:
    """Ids of the tokens before and after an image."""
    chosen = _chosen(model)
    own = _own_frame(model, plan.source.backbone) if chosen is None else None
    if own is not None:
        return own
    vocabulary = tokenizer.get_vocab()
    names = chosen or (IMAGE, IMAGE_END)
    lost = [name for name in names if name not in vocabulary]
    if lost:
        unused = plan.vocab_size - max(vocabulary.values()) - 1
        message = f"`{lost[0]}` is not in the tokenizer's vocabulary"
        help = "`model.tokenizer.image_tokens` takes two tokens that are, before and after an image"
        if unused == 0:
            message += ", and the embedding has no unused row for it"
        if unused >= 2:
            help += f"; without it, `{IMAGE}` and `{IMAGE_END}` get unused rows of the embedding"
        raise UserError(message, help)
    return vocabulary[names[0]], vocabulary[names[1]]


def _chosen(model: Model) -> tuple[str, str] | None:
    return model.tokenizer.image_tokens if isinstance(model.tokenizer, PretrainedTokenizer) else None


def _own_frame(model: Model, backbone: Backbone) -> tuple[int, int] | None:
    """Ids that the checkpoint's config gives. Another tokenizer may use them for something else; `bytes` has too few to."""
    return None if isinstance(model.tokenizer, PretrainedTokenizer) else backbone.image_tokens


def _holds_images(model: Model) -> bool:
    return model.vision is not None or model.latents is not None


def _begins_with_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer puts its bos in front of a text by itself."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]


def _first(value: Any) -> Any:
    """Configs may give several end tokens; the first one ends a text."""
    return value[0] if isinstance(value, list) else value

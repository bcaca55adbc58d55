"""Counting on a plain Hugging Face checkpoint: the family's own model, its own routers, nothing of it changed.

Documents are built as in training (`smoe_cli.data.documents`), from the tokens that the checkpoint's tokenizer has:

    lm    <bos> text <eos>
    mmu   <bos> <start of image> vit… <end of image> question "\\n" answer <eos>
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from smoe_cli.convert.profiling.data import Documents
from smoe_cli.convert.profiling.images import ImageReader, Patches
from smoe_cli.convert.profiling.tally import PADDING, RouterHooks, Tally
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.data.tokenizer import TextEncoder, read_tokenizer
from smoe_cli.errors import Failure, UserError
from smoe_cli.families import ANATOMIES, DENSE, Backbone, Checkpoint, open_checkpoint, read_backbone
from smoe_cli.plan.profile import Profile
from smoe_cli.recipe.nodes import TEXT, VIT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.convert.profiling.counting import Settings

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Tokens:
    """One document. ids and modality are of one length; `patches` those of its image, if it has one."""

    ids: list[int]
    modality: list[int]
    patches: Patches | None = None


class PlainCounter:
    """A plain checkpoint that counts. `load` has to be called before `tokens` and `count`.

    model: a folder, or a hub id. Raises UserError when it is not a checkpoint of a supported family with experts.
    """

    draws = False
    """Whether it reads data of the task `t2i`."""

    def __init__(self, model: str, settings: Settings):
        self.name = model
        self.checkpoint = open_checkpoint(model)
        self.backbone = read_backbone(self.checkpoint)
        if self.backbone.family in DENSE:
            raise UserError(
                f"{model}: a dense model, without experts to count", f"families that have some: {', '.join(ANATOMIES)}"
            )
        text = self.backbone.text_config
        self.max_tokens = min(settings.max_tokens, int(text.get("max_position_embeddings", settings.max_tokens)))
        self.dtype = _dtype(self.checkpoint) if settings.dtype == "auto" else settings.dtype
        self.images = None
        if self.backbone.anatomy.multimodal:
            self.images = ImageReader(self.checkpoint, self.backbone.anatomy, settings.image_size)
        elif settings.image_size:
            raise UserError("--image-size: no effect on a model that sees no images")

    def check(self, documents: Documents) -> None:
        """Raise UserError unless the model can read these data."""
        if documents.task != "mmu":
            return
        if self.images is None:
            raise UserError(
                f"{documents.name}: has images, and a `{self.backbone.family}` reads text only",
                f"families that see: {', '.join(name for name, anatomy in ANATOMIES.items() if anatomy.multimodal)}",
            )
        self.images.check_size()

    def empty(self) -> Profile:
        """The profile before anything was counted."""
        backbone = self.backbone
        return Profile(
            family=backbone.family,
            sha256=backbone.sha256,
            layers=backbone.moe_layers,
            experts=backbone.num_experts,
            top_k=backbone.top_k,
            tokens={},
            counts={},
            mass={},
            model=self.name,
            weights=self.checkpoint.sample(),
            dtype=self.dtype,
            pools=backbone.pool_sizes,
        )

    def load(self) -> PlainCounter:
        """Read tokenizer and weights."""
        tokenizer = read_tokenizer(str(self.checkpoint.folder))
        self._encoder = TextEncoder(tokenizer)
        self._bos, self._eos = _frame_of_texts(tokenizer, self.backbone)
        self.model = _load(self.checkpoint, self.backbone, self.dtype)
        self.hooks = RouterHooks(routers(self.model, self.backbone))
        return self

    def tokens(self, sample: Sample, position: int = 0) -> Tokens:
        """The document of a sample. Raises BadRow when it cannot be encoded or its image does not fit."""
        ids, modality, patches = list(self._bos), [TEXT] * len(self._bos), None
        if sample.image is not None:
            assert self.images is not None
            patches = self.images.read(sample.image)
            start, image, end = self.images.tokens
            frame = VIT if self._pools > 1 else TEXT
            ids += [start, *[image] * patches.tokens, end]
            modality += [frame, *[VIT] * patches.tokens, frame]
            if len(ids) > self.max_tokens:
                raise BadRow(
                    "image is longer than a document", f"the image has {patches.tokens} tokens, {len(ids)} with its frame"
                )
        question = f"{sample.question}\n" if sample.question else ""
        try:
            text = [*self._encoder(question), *self._encoder(sample.text), *self._eos]
        except ValueError as error:
            raise BadRow("text is not valid Unicode") from error
        return Tokens([*ids, *text][: self.max_tokens], [*modality, *[TEXT] * len(text)][: self.max_tokens], patches)

    def count(self, documents: Sequence[Tokens]) -> Tally:
        """Run a batch and count its routers' choices."""
        device = self.model.get_input_embeddings().weight.device
        ids = _padded([d.ids for d in documents], 0).to(device)
        modality = _padded([d.modality for d in documents], PADDING).to(device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": (modality != PADDING).long(), "use_cache": False}
        if patches := [d.patches for d in documents if d.patches is not None]:
            assert self.images is not None
            inputs["pixel_values"] = torch.cat([p.values for p in patches]).to(device, self.model.dtype)
            inputs["image_grid_thw"] = torch.cat([p.grid for p in patches]).to(device)
            inputs["mm_token_type_ids"] = (ids == self.images.tokens[1]).int()
            if self._pools > 1:
                inputs["moe_mm_token_type_ids"] = (modality == VIT).int()
        pool = (modality == VIT).long() if self._pools > 1 else torch.zeros_like(modality)
        self.hooks.start(modality.flatten(), pool.flatten())
        with torch.inference_mode():
            self.model.model(**inputs)  # without the output head, which decides nothing here
        return self.hooks.finish()

    @property
    def _pools(self) -> int:
        return len(self.backbone.anatomy.pools)


def _frame_of_texts(tokenizer: PreTrainedTokenizerFast, backbone: Backbone) -> tuple[list[int], list[int]]:
    """Ids before and after each document: bos if the tokenizer itself puts it in front, eos if tokenizer or config name one."""
    eos = tokenizer.eos_token_id
    if eos is None:
        eos = backbone.config.get("eos_token_id", backbone.text_config.get("eos_token_id"))
        eos = eos[0] if isinstance(eos, list) else eos
    bos = tokenizer.bos_token_id
    begins = bos is not None and tokenizer("a").input_ids[:1] == [bos]
    return ([bos] if begins else []), ([eos] if eos is not None else [])


def routers(model: nn.Module, backbone: Backbone) -> list[list[tuple[nn.Module, int]]]:
    """For each layer that has experts, for each pool: the router and its number of experts."""
    anatomy, found = backbone.anatomy, []
    for layer in backbone.moe_layers:
        row = []
        for pool, size in zip(anatomy.pools, backbone.pool_sizes, strict=True):
            parts = (anatomy.decoder, "layers", str(layer), anatomy.block, pool, anatomy.router)
            row.append((model.get_submodule(".".join(part for part in parts if part)), size))
        found.append(row)
    return found


def _dtype(checkpoint: Checkpoint) -> str:
    """What most of the weights are stored in."""
    sizes: Counter[str] = Counter()
    for entry in checkpoint.entries.values():
        sizes[entry.dtype] += math.prod(entry.shape)
    return _DTYPES[sizes.most_common(1)[0][0]]


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """(B, S) int64, filled on the right, where a causal model does not look."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def _load(checkpoint: Checkpoint, backbone: Backbone, dtype: str) -> Any:
    """The family's own model, in evaluation mode, on the accelerators where there are any."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText if backbone.anatomy.multimodal else AutoModelForCausalLM
    place = {"device_map": "auto"} if torch.accelerator.is_available() else {}
    try:
        model, found = auto.from_pretrained(
            str(checkpoint.folder), dtype=dtype, trust_remote_code=False, output_loading_info=True, **place
        )
    except torch.OutOfMemoryError as error:
        raise Failure(f"{checkpoint.folder}: out of memory: {str(error).splitlines()[0]}", "try --dtype bfloat16") from None
    lost = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if lost:
        raise UserError(f"{checkpoint.folder}: lacks {', '.join(lost[:5])}", "the checkpoint is incomplete; copy it again")
    return model.eval()

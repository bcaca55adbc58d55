"""Where a model family keeps its router, experts and shared experts, and how it scores: data, one entry a family.

Names are those of the family's classes in transformers (`in memory`); `on_disk` leads from the names in its files to them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from smoe_cli.errors import UserError


@dataclass(frozen=True)
class OnDisk:
    """Tensors whose name or orientation in the files differs from memory. `#` stands for a number; a name that ends in a dot
    is the beginning of one, whose rest stays. The first entry that fits a name counts, with those of the same `disk`."""

    disk: str
    """As transformers writes it."""
    memory: str
    hub: str | None = None
    """As its authors published it, where that differs from `disk`. A checkpoint holds all names of one kind."""
    swap: bool = False
    """The last two dimensions are exchanged on disk."""
    row: int | None = None
    """The tensor in memory, (1, …), is this row of the one on disk, which several in memory share."""


@dataclass(frozen=True)
class Anatomy:
    """One family. Keys of the config are looked up in its text part, unless another is named."""

    decoder: str = "model"
    """Path of the decoder (embed_tokens, layers, norm) within the model with the output head."""
    block: str = "mlp"
    """The MoE block, or the plain feed-forward of a dense layer, within a decoder layer."""

    # the MoE block
    pools: tuple[str, ...] = ("",)
    """Paths within the block of its sets of experts, each with a router of its own. ("",): one set, the block itself. Experts
    are numbered pool after pool, in files too; a group takes its experts from one pool."""
    pool_modalities: tuple[tuple[str, ...], ...] = ()
    """With several pools: the modalities that the family itself sends to each."""
    router: str = "gate"
    """Within the pool."""
    bias: str | None = None
    """Within the router: what is added to the scores for the selection only. Not trained by gradients."""
    experts: str = "experts"
    """Within the pool."""
    shared: str | None = None
    """The always-on MLP within the block, if any; `shared_gate` its sigmoid gate."""
    shared_gate: str | None = None
    shared_last: bool = False
    """Whether the block runs it after the routed experts: gradients of the block's input are summed in the order of use."""

    # how a token is routed
    num_experts: str = "num_experts"
    """Config key: routed experts of a pool. Files may call it `num_local_experts`."""
    top_k: str = "num_experts_per_tok"
    """Config key: experts a token is sent to."""
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    """Logits to scores."""
    renormalise: str | bool = "norm_topk_prob"
    """Whether the weights of the chosen experts are rescaled to sum to 1: a config key, or the same for the whole family."""
    scaling: str | None = None
    """Config key: factor on the weights after that."""
    limits: tuple[str, str] | None = None
    """Config keys (n_group, topk_group): experts lie in n_group equal parts, a token only uses its topk_group best ones."""

    # images; config keys are looked up in `vision_config`, those of token ids at the top
    vision: str | None = None
    """Path of the family's own vision encoder within the model; None for text families."""
    projector: tuple[str, ...] = ()
    """Paths of the modules that map its features to the decoder's width."""
    positions: Literal["rope", "mrope"] = "rope"
    """`mrope`: every token has a temporal, a vertical and a horizontal position (Qwen2-VL, section 2.1)."""
    image_tokens: tuple[str, str] | None = None
    """Config keys: ids of the family's own tokens before and after an image."""
    image_token: str = "image_token_id"
    """Config key: id of the token in whose place a feature of an image stands."""
    patch_size: str = "patch_size"
    """Config key: pixels along a side of a patch."""
    merge_size: str = "spatial_merge_size"
    """Config key: patches along a side of the square that becomes one token."""
    temporal_patch_size: str | None = "temporal_patch_size"
    """Config key: frames of a patch; a picture is repeated to fill them. None: one frame."""
    image_processor: str | None = None
    """Class in transformers of the family's image processor: the one that needs Pillow alone."""
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Default of the family's image processor, per channel, for pixels in [0, 1]. preprocessor_config.json wins."""
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    on_disk: tuple[OnDisk, ...] = ()

    @property
    def multimodal(self) -> bool:
        """Whether the family sees images by itself."""
        return self.vision is not None


_DEEPSEEK = Anatomy(
    bias="e_score_correction_bias",
    shared="shared_experts",
    shared_last=True,
    num_experts="n_routed_experts",
    scoring="sigmoid",
    scaling="routed_scaling_factor",
    limits=("n_group", "topk_group"),
)

ANATOMIES: dict[str, Anatomy] = {
    "qwen2_moe": Anatomy(shared="shared_expert", shared_gate="shared_expert_gate"),
    "qwen3_moe": Anatomy(),
    "olmoe": Anatomy(),
    "deepseek_v3": _DEEPSEEK,
    "glm4_moe": _DEEPSEEK,
    "hunyuan_v1_moe": Anatomy(shared="shared_mlp", top_k="moe_topk", renormalise=True),
    "qwen3_vl_moe": Anatomy(
        decoder="model.language_model",
        renormalise=True,
        vision="model.visual",
        projector=("model.visual.merger", "model.visual.deepstack_merger_list"),
        positions="mrope",
        image_tokens=("vision_start_token_id", "vision_end_token_id"),
        image_processor="Qwen2VLImageProcessorPil",
    ),
    "qwen3_5_moe": Anatomy(
        decoder="model.language_model",
        shared="shared_expert",
        shared_gate="shared_expert_gate",
        renormalise=True,
        vision="model.visual",
        projector=("model.visual.merger",),
        positions="mrope",
        image_tokens=("vision_start_token_id", "vision_end_token_id"),
        image_processor="Qwen2VLImageProcessorPil",
    ),
    "glm4v_moe": replace(
        _DEEPSEEK,
        decoder="model.language_model",
        vision="model.visual",
        projector=("model.visual.downsample", "model.visual.merger"),
        positions="mrope",
        image_tokens=("image_start_token_id", "image_end_token_id"),
        image_processor="Glm4vImageProcessorPil",
    ),
    "ernie4_5_vl_moe": Anatomy(
        decoder="model.language_model",
        pools=("text_moe", "vision_moe"),
        pool_modalities=(("text",), ("vit",)),
        bias="moe_statics.e_score_correction_bias",
        shared="shared_experts",
        num_experts="moe_num_experts",
        top_k="moe_k",
        renormalise=True,
        vision="model.vision_tower",
        projector=("model.resampler_model",),
        positions="mrope",
        image_tokens=("image_start_token_id", "image_end_token_id"),
        temporal_patch_size=None,
        image_processor="Ernie4_5_VLMoeImageProcessorPil",
        on_disk=(
            OnDisk("model.layers.#.mlp.gate.weight", "model.language_model.layers.#.mlp.text_moe.gate.weight", swap=True),
            OnDisk("model.layers.#.mlp.gate.weight_1", "model.language_model.layers.#.mlp.vision_moe.gate.weight", swap=True),
            *(
                OnDisk(
                    "model.layers.#.mlp.moe_statics.e_score_correction_bias",
                    f"model.language_model.layers.#.mlp.{pool}.gate.moe_statics.e_score_correction_bias",
                    row=row,
                )
                for row, pool in enumerate(("text_moe", "vision_moe"))
            ),
            OnDisk("model.layers.", "model.language_model.layers."),
            OnDisk("model.embed_tokens.", "model.language_model.embed_tokens."),
            OnDisk("model.norm.", "model.language_model.norm."),
            OnDisk("model.vision_model.", "model.vision_tower.", hub="vision_model."),
            *(
                OnDisk(f"model.resampler_model.{linear}.{number}.", f"model.resampler_model.{linear}.{name}.")
                for linear in ("spatial_linear", "temporal_linear")
                for number, name in ((0, "fc1"), (2, "fc2"), (3, "ln"))
            ),
        ),
    ),
}
"""Families of mixture-of-experts models, by `model_type`."""

DENSE: dict[str, Anatomy] = {family: Anatomy() for family in ("llama", "qwen2", "qwen3", "olmo2")}
"""Families of dense models that can be upcycled."""


def anatomy_of(family: str) -> Anatomy:
    """The entry of a family (`model_type` in config.json), sparse or dense. Raises UserError naming the supported ones."""
    entry = ANATOMIES.get(family) or DENSE.get(family)
    if entry is None:
        raise UserError(
            f"model family `{family}` is not supported",
            f"mixture-of-experts families: {', '.join(sorted(ANATOMIES))}; dense ones, to upcycle: {', '.join(sorted(DENSE))}",
        )
    return entry

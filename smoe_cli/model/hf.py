"""The model as transformers' auto classes see it: `AutoModelForCausalLM.from_pretrained(folder)` after `import smoe_cli`.

It speaks for text tokens: logits, labels, KV cache and `generate` are those of the backbone after surgery, every token taken
as text. Images to understand and to generate go through `SymbioticModel`, whose modules (`vision`, `projector`, `latents`)
this class holds under the same names, so that loading and saving lose nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel

from smoe_cli.errors import Failure
from smoe_cli.model.hf_config import SymbioticConfig
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.plan.source import Source
from smoe_cli.recipe import Recipe


def compiled(config: SymbioticConfig) -> tuple[Recipe, Plan]:
    """Recipe and plan of a model folder's config, without the checkpoint and the profile that it came from.

    Raises ValueError when the config lacks them.
    """
    if config.recipe is None or config.source is None:
        raise ValueError("the config has no `recipe` and `source`; load it with `SymbioticConfig.from_pretrained(folder)`")
    recipe = Recipe.model_validate(config.recipe)
    return recipe, compile_plan(recipe, source=Source.from_dict(config.source))


class SymbioticForCausalLM(PreTrainedModel, GenerationMixin):
    """backbone, vision, projector, latents: as in `SymbioticModel`."""

    config_class = SymbioticConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True

    def __init__(self, config: SymbioticConfig):
        # here, not above: this module is imported in the middle of transformers' auto classes, which these import themselves
        from smoe_cli.model.attachments import attachments
        from smoe_cli.model.backbone import skeleton

        recipe, plan = compiled(config)
        # kernels are the recipe's unless the caller asks for others
        config._attn_implementation = config._attn_implementation or recipe.training.attention
        config._experts_implementation = config._experts_implementation or recipe.training.experts
        super().__init__(config)
        kernels = {"attention": config._attn_implementation, "experts": config._experts_implementation}
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=kernels)})
        dtype = torch.get_default_dtype()  # transformers sets it to what the caller asks for
        self.backbone: PreTrainedModel = skeleton(recipe, plan, dtype, empty=False)
        modules = {name: module.to(dtype) for name, module in attachments(recipe, plan).items()}
        self.vision, self.projector, self.latents = (modules.get(name) for name in ("vision", "projector", "latents"))
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> Any:
        """input_ids (B, S) and what the backbone's own class takes: attention_mask (B, S), position_ids, past_key_values,
        inputs_embeds (B, S, D), labels (B, S), use_cache, logits_to_keep, … Every token is text.

        Raises ValueError on pixels: the groups of image tokens are chosen by `SymbioticModel`.
        """
        if pixels := sorted(name for name in kwargs if name.startswith("pixel_values") and kwargs[name] is not None):
            raise ValueError(f"`{pixels[0]}`: this class reads text; use `smoe generate`, or SymbioticModel, for images")
        return self.backbone(input_ids=input_ids, **kwargs)

    def generate(self, inputs: Tensor | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As the backbone's own class does it, with this model's generation config."""
        self.backbone.generation_config = self.generation_config
        return self.backbone.generate(inputs, **kwargs)  # type: ignore[operator]

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but a tensor that is missing, unknown or of another shape is an error, not a warning.

        Raises Failure naming it.
        """
        wanted = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[kind]:
                raise Failure(f"the folder has {kind.replace('_', ' ')}: {sorted(map(str, info[kind]))[:5]}")
        for module in model.modules():
            if hasattr(module, "derive_buffers"):  # transformers has each of its own families fill theirs
                module.derive_buffers()
        return (model, info) if wanted else model

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """As in transformers. Names stay as they are: the backbone's own renames belong to plain checkpoints."""
        super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """transformers looks for its decorator in this file; the experts are the family's own."""
        return True

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.backbone.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.backbone.set_output_embeddings(new_embeddings)

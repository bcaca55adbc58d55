"""The model: a transformers decoder after surgery, a vision encoder, the latent interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from smoe_cli.errors import Failure
from smoe_cli.model.attachments import attachments
from smoe_cli.model.backbone import build_backbone
from smoe_cli.model.latents import LatentInterface, noised, target_velocity
from smoe_cli.model.mask import Layout, dense
from smoe_cli.model.pixels import Normalisation
from smoe_cli.model.recurrent import FULL, LINEAR, isolate_documents, recurrent_mask
from smoe_cli.model.routing import LayerRouting, Routing, RowShield, with_frames
from smoe_cli.model.vision import Seen, see, see_with_own
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import OwnVision, Recipe
from smoe_cli.recipe.nodes import MODALITIES, VAE, VIT


@dataclass(frozen=True)
class ActiveShield:
    """A shield at one step: tokens of `modalities` send `factor` of their gradient back through `module`."""

    module: str
    modalities: tuple[str, ...]
    mode: str
    factor: float


@dataclass
class Outputs:
    """Sums over one micro-batch; the trainer owns weights and denominators. F = number of data sources.

    text_losses, text_counts: (F,) cross-entropy in nats summed over target tokens, and their number, by source.
    flow_losses, flow_counts: (F,) squared error summed over latent values, and their number, by source.
    routing: one entry per layer.
    """

    text_losses: Tensor
    text_counts: Tensor
    flow_losses: Tensor
    flow_counts: Tensor
    routing: list[LayerRouting]


@dataclass(frozen=True)
class Inputs:
    """What the decoder starts from. embeds_BSD: embeddings of all tokens. deep: features of the `vit` tokens, which are where
    visual_BS is true, to be added to the hidden states after the first layers, one entry a layer."""

    embeds_BSD: Tensor
    visual_BS: Tensor | None = None
    deep: tuple[Tensor, ...] = ()

    def keywords(self) -> dict[str, object]:
        """As decoders with deep-stacked features take them."""
        return {"visual_pos_masks": self.visual_BS, "deepstack_visual_embeds": list(self.deep)} if self.deep else {}


class SymbioticModel(nn.Module):
    """backbone, vision (None if it is the backbone's own), projector, latents: see `smoe_cli.plan` for names and roles."""

    def __init__(self, recipe: Recipe, plan: Plan):
        super().__init__()
        self.recipe, self.plan = recipe, plan
        self.group_of = tuple(plan.group_of.get(m, -1) for m in MODALITIES)
        spec, training = recipe.model, recipe.training
        vision, anatomy = spec.vision, plan.source.backbone.anatomy
        self.backbone = build_backbone(recipe, plan)
        self.recurrent = isolate_documents(self.decoder)
        self.mrope, self.frames_are_vit = anatomy.positions == "mrope", bool(anatomy.pool_modalities)
        default = "causal" if isinstance(vision, OwnVision) else "bidirectional"
        self.causal_images = (spec.image_attention or default) == "causal"
        self.normalisation = Normalisation.of_plan(vision, plan) if vision else None
        parts = attachments(recipe, plan)
        self.vision, self.projector = cast("PreTrainedModel | None", parts.get("vision")), parts.get("projector")
        self.latents = cast("LatentInterface | None", parts.get("latents"))
        if training.activation_checkpointing:
            # the method's name changed within transformers 5
            enable = (
                getattr(self.backbone, "activation_checkpointing_enable", None) or self.backbone.gradient_checkpointing_enable
            )
            enable()

    @property
    def device(self) -> torch.device:
        """Where the embedding lives."""
        return next(self.parameters()).device

    @property
    def decoder(self) -> nn.Module:
        """What holds the embedding, the layers and the last norm; the output head is `backbone.lm_head`."""
        return self.backbone.get_submodule(self.plan.source.backbone.anatomy.decoder)

    def see(self, pixels_NCHW: Tensor) -> Seen:
        """The `vit` tokens of some images in [-1, 1].

        Without images the encoder still runs, on one empty image whose features are thrown away: its weights then get a zero
        gradient on every rank and step instead of none, which would desynchronise ranks and optimizer states.
        """
        images = pixels_NCHW.shape[0]
        if images == 0:
            if not torch.is_grad_enabled():
                return Seen(pixels_NCHW.new_zeros(0, self.plan.source.backbone.hidden_size))
            pixels_NCHW = pixels_NCHW.new_zeros(1, *pixels_NCHW.shape[1:])
        if self.vision is not None and self.projector is not None:
            seen = see(self.vision, self.projector, pixels_NCHW, self.plan.vit_tokens, self.normalisation)
        else:
            geometry = self.plan.source.backbone.vision_geometry
            assert geometry is not None
            assert self.normalisation is not None
            seen = see_with_own(self.backbone, geometry, self.normalisation, pixels_NCHW)
        return seen if images else seen.first(0)

    def embed(self, batch: Mapping[str, Tensor]) -> Inputs:
        """Input embeddings: text from the table, `vit` from the encoder, `vae` from noisy latents."""
        x_TD = self.backbone.get_input_embeddings()(batch["input_ids"]).flatten(0, 1)
        modality_T = batch["modality"].flatten()
        deep: tuple[Tensor, ...] = ()
        if self.recipe.model.vision is not None:
            seen = self.see(batch["vit_pixels"])
            x_TD = x_TD.index_copy(0, (modality_T == VIT).nonzero().squeeze(1), seen.embeds_TD.to(x_TD.dtype))
            deep = seen.deep
        if self.latents is not None:
            x_t = batch["noisy_latents"]
            x_TD = x_TD.index_copy(
                0,
                (modality_T == VAE).nonzero().squeeze(1),
                self.latents.embed(x_t, batch["timestep"]).flatten(0, 1).to(x_TD.dtype),
            )
        return Inputs(x_TD.view(*batch["input_ids"].shape, -1), batch["modality"] == VIT, deep)

    def layout(self, document_BS: Tensor, image_BS: Tensor, modality_BS: Tensor) -> Layout:
        """What the attention rule looks at. With causal image attention an image to understand is no unit to it."""
        if self.causal_images:
            image_BS = image_BS.masked_fill(modality_BS == VIT, -1)
        return Layout(document_BS, image_BS, modality_BS == VAE)

    def routing(
        self,
        modality_BS: Tensor,
        valid_BS: Tensor | None = None,
        shields: Sequence[ActiveShield] = (),
        record: bool = False,
    ) -> Routing:
        """Who goes where in one forward pass. valid_BS: False for padding, which is never counted."""
        routed_BS = with_frames(modality_BS) if self.frames_are_vit else modality_BS
        valid_T = None if valid_BS is None else valid_BS.flatten()
        rows = row_shields(shields, modality_BS.flatten())
        return Routing.of(routed_BS.flatten(), self.group_of, len(self.plan.groups), valid_T, rows, record)

    def decode(
        self, inputs: Inputs, position_ids: Tensor, layout: Layout, routing: Routing, cache: Cache | None = None
    ) -> Tensor:
        """Hidden states (B, Q, D) of the last Q tokens of `layout`; a cache holds the others.

        position_ids: (B, Q, 3), of which only families with three-dimensional positions take more than the first.
        """
        queries = inputs.embeds_BSD.shape[1]
        mask: object = self.attention_mask(layout, queries)
        if self.recurrent:
            mask = {FULL: mask, LINEAR: recurrent_mask(layout.document_BS, queries, cache is not None)}
        return self.decoder(
            inputs_embeds=inputs.embeds_BSD,
            attention_mask=mask,
            position_ids=position_ids.permute(2, 0, 1) if self.mrope else position_ids[..., 0],
            past_key_values=cache,
            use_cache=cache is not None,
            routing=routing,
            **inputs.keywords(),
        ).last_hidden_state

    def forward(self, batch: Mapping[str, Tensor], shields: Sequence[ActiveShield] = (), record: bool = True) -> Outputs:
        """Losses of one micro-batch (`smoe_cli.data`): teacher-forced text and flow matching on the images to generate."""
        batch = dict(batch)
        modality_BS = batch["modality"]
        sources = len(self.recipe.data.sources)
        zeros = torch.zeros(sources, device=modality_BS.device)
        target = None
        if self.latents is not None:
            x0 = self.latents.encode(batch["vae_pixels"])
            t_N = batch["timestep"]
            x_t = batch["noisy_latents"] = noised(x0, batch["noise"], t_N)
            target = target_velocity(x0, batch["noise"], x_t, t_N, self.latents.prediction)
        routing = self.routing(modality_BS, batch["document"] >= 0, shields, record)
        layout = self.layout(batch["document"], batch["image"], modality_BS)
        hidden_BSD = self.decode(self.embed(batch), batch["position_ids"], layout, routing)
        hidden_TD = hidden_BSD.flatten(0, 1)
        if record and len(routing.layers) != len(self.plan.moe_layers):
            raise Failure(
                "the decoder did not pass the routing on to its layers", "this version of transformers is not supported"
            )

        targets_T = batch["targets"].flatten()
        at = (targets_T >= 0).nonzero().squeeze(1)
        nll = F.cross_entropy(self.backbone.lm_head(hidden_TD[at]).float(), targets_T[at], reduction="none")
        source_T = batch["source"].flatten()[at]
        outputs = Outputs(
            text_losses=_by_source(source_T, nll, sources),
            text_counts=torch.bincount(source_T, minlength=sources),
            flow_losses=zeros,
            flow_counts=zeros.long(),
            routing=[routing.layers[i] for i in sorted(routing.layers)],
        )
        if self.latents is not None and target is not None:
            at_latents = (modality_BS == VAE).flatten().nonzero().squeeze(1)
            hidden_NPD = hidden_TD[at_latents].unflatten(0, target.shape[:2])
            velocity = self.latents.velocity(hidden_NPD, batch["noisy_latents"], batch["timestep"])
            error_N = (velocity - target.float()).square().flatten(1).sum(1)
            outputs.flow_losses = _by_source(batch["vae_source"], error_N, sources)
            outputs.flow_counts = torch.bincount(batch["vae_source"], minlength=sources) * target.shape[1:].numel()
        return outputs

    def attention_mask(self, layout: Layout, queries: int | None = None) -> Tensor:
        """The dense mask in the form the chosen kernel takes."""
        visible = dense(layout, queries)
        if self.recipe.training.attention == "sdpa":
            return visible
        return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, torch.finfo(torch.float32).min)


def _by_source(source_N: Tensor, value_N: Tensor, sources: int) -> Tensor:
    """(F,) sums of float32 values by source; unlike `index_add`, the same bits every time on CUDA too."""
    return (F.one_hot(source_N, sources) * value_N.unsqueeze(-1)).sum(0)


def row_shields(shields: Sequence[ActiveShield], modality_T: Tensor) -> tuple[RowShield, ...]:
    """Per-token factors of the shields that are not fully open."""
    rows = []
    for shield in shields:
        if shield.factor == 1.0:
            continue
        factor_M = torch.tensor(
            [shield.factor if m in shield.modalities else 1.0 for m in MODALITIES], device=modality_T.device
        )
        rows.append(RowShield(shield.mode, factor_M[modality_T].unsqueeze(-1)))
    return tuple(rows)

"""The model: a transformers decoder after surgery, a vision encoder, the latent interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from smoe_cli.errors import Failure
from smoe_cli.model.latents import LatentInterface, noised, target_velocity
from smoe_cli.model.mask import Layout, dense
from smoe_cli.model.routing import LayerRouting, Routing, RowShield
from smoe_cli.model.surgery import operate
from smoe_cli.model.vision import build_projector, build_vision, vision_features
from smoe_cli.plan import Plan
from smoe_cli.recipe.models import MODALITIES, VAE, VIT, Recipe


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


def backbone_config(recipe: Recipe, plan: Plan) -> PretrainedConfig:
    """The transformers config of a backbone from scratch."""
    scratch, shared = recipe.model.backbone.scratch, recipe.model.shared
    keys = scratch.model_dump(exclude={"family", "vocab_size", "rope_theta"})
    return AutoConfig.for_model(
        scratch.family,
        vocab_size=plan.vocab_size,
        intermediate_size=scratch.moe_intermediate_size * scratch.num_experts_per_tok,
        shared_expert_intermediate_size=shared.count * shared.intermediate_size,
        rope_parameters={"rope_type": "default", "rope_theta": scratch.rope_theta},
        use_cache=False,
        **keys,
    )


class SymbioticModel(nn.Module):
    """backbone, vision, projector, latents: see `smoe_cli.plan` for the names and roles of their parameters."""

    def __init__(self, recipe: Recipe, plan: Plan):
        super().__init__()
        self.recipe, self.plan = recipe, plan
        self.group_of = tuple(plan.group_of.get(m, -1) for m in MODALITIES)
        spec, training = recipe.model, recipe.training
        config = backbone_config(recipe, plan)
        backbone = AutoModelForCausalLM.from_config(
            config, attn_implementation=training.attention, experts_implementation=training.experts
        )
        self.backbone = operate(backbone, plan, spec.shared.modalities)
        width, eps = spec.backbone.scratch.hidden_size, spec.backbone.scratch.rms_norm_eps
        self.vision = build_vision(spec.vision, training.attention) if spec.vision else None
        self.projector = build_projector(spec.vision, width) if spec.vision else None
        self.latents = LatentInterface(spec.latents, width, eps) if spec.latents else None
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

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, S, D) input embeddings: text from the table, `vit` from the encoder, `vae` from noisy latents."""
        x_TD = self.backbone.get_input_embeddings()(batch["input_ids"]).flatten(0, 1)
        modality_T = batch["modality"].flatten()
        if self.vision is not None:
            features = vision_features(self.vision, self.projector, batch["vit_pixels"], self.plan.vit_tokens)  # type: ignore[arg-type]
            x_TD = x_TD.index_copy(0, (modality_T == VIT).nonzero().squeeze(1), features.to(x_TD.dtype))
        if self.latents is not None:
            x_t = batch["noisy_latents"]
            x_TD = x_TD.index_copy(
                0,
                (modality_T == VAE).nonzero().squeeze(1),
                self.latents.embed(x_t, batch["timestep"]).flatten(0, 1).to(x_TD.dtype),
            )
        return x_TD.view(*batch["input_ids"].shape, -1)

    def forward(self, batch: Mapping[str, Tensor], shields: Sequence[ActiveShield] = (), record: bool = True) -> Outputs:
        """Losses of one micro-batch (`smoe_cli.data`): teacher-forced text and flow matching on the images to generate."""
        batch = dict(batch)
        modality_T, document_T = batch["modality"].flatten(), batch["document"].flatten()
        noisy_BS = batch["modality"] == VAE
        sources = len(self.recipe.data.sources)
        zeros = torch.zeros(sources, device=modality_T.device)
        target = None
        if self.latents is not None:
            x0 = self.latents.encode(batch["vae_pixels"])
            t_N = batch["timestep"]
            x_t = batch["noisy_latents"] = noised(x0, batch["noise"], t_N)
            target = target_velocity(x0, batch["noise"], x_t, t_N, self.latents.prediction)
        routing = Routing.of(
            modality_T, self.group_of, len(self.plan.groups), document_T >= 0, row_shields(shields, modality_T), record
        )
        hidden_BSD = self.backbone.model(
            inputs_embeds=self.embed(batch),
            attention_mask=self.attention_mask(Layout(batch["document"], batch["image"], noisy_BS)),
            position_ids=batch["position_ids"],
            use_cache=False,
            routing=routing,
        ).last_hidden_state
        hidden_TD = hidden_BSD.flatten(0, 1)
        if record and len(routing.layers) != len(self.backbone.model.layers):
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
            at_latents = noisy_BS.flatten().nonzero().squeeze(1)
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


def build_model(recipe: Recipe, plan: Plan) -> SymbioticModel:
    """A model with fresh weights, a function of the recipe's seed alone. The global random state is left as it was.

    Raises Failure if a parameter is not the one that the plan announced.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = SymbioticModel(recipe, plan)
    check_against_plan(model, plan)
    return model


def check_against_plan(model: nn.Module, plan: Plan) -> None:
    """Every parameter of the model is announced by the plan, with its shape, and the other way round.

    Names inside the vision encoder vary with the version of transformers; their shapes are compared as a whole.
    """

    def inventory(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[dict[str, tuple[int, ...]], list[tuple[int, ...]]]:
        return {n: s for n, s in tensors if not n.startswith("vision.")}, sorted(
            s for n, s in tensors if n.startswith("vision.")
        )

    planned = inventory([(t.name, tuple(t.shape)) for t in plan.tensors])
    built = inventory([(n, tuple(p.shape)) for n, p in model.named_parameters()])
    if planned != built:
        differing = sorted(set(planned[0].items()) ^ set(built[0].items()))[:5] or "shapes within vision.*"
        raise Failure(
            f"the built model differs from its plan: {differing}", "this is a bug in smoe; please report it with the recipe"
        )

"""The Plan: everything that follows from a recipe before any weight exists. Frozen, and JSON-able through `to_dict`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class GroupPlan:
    """An expert group and the experts it takes from every layer of the backbone."""

    name: str
    modalities: tuple[str, ...]
    experts: tuple[tuple[int, ...], ...]
    """For each layer, ascending indices into the backbone's experts."""

    @property
    def size(self) -> int:
        """Experts per layer."""
        return len(self.experts[0])


@dataclass(frozen=True)
class Tensor:
    """One parameter of the built model, under the name `named_parameters` gives it."""

    name: str
    shape: tuple[int, ...]
    role: str

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ShieldPlan:
    """A gradient shield with its factor written as steps of a staircase."""

    module: str
    modalities: tuple[str, ...]
    mode: str
    factors: tuple[tuple[int, float], ...]
    """(step in phase, factor), ascending; each factor holds from its step on."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device while a phase trains. What each part holds is said in `memory.py`."""

    weights: int
    autocast: int
    gradients: int
    optimizer: int
    ema: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of the parts, in bytes."""
        return self.weights + self.autocast + self.gradients + self.optimizer + self.ema + self.activations


@dataclass(frozen=True)
class PhasePlan:
    """A phase of training with every role resolved."""

    name: str
    start: int
    """Step of the run at which the phase begins."""
    steps: int
    tokens_per_step: int
    rows_per_step: int
    accumulate: int
    tokens: int
    """Tokens of the whole phase."""
    mixture: dict[str, float]
    """{source: share of the samples}; sums to 1."""
    rates: dict[str, float]
    """{role: peak learning rate}, trainable roles only. 0.0 is a rate like any other."""
    frozen: tuple[str, ...]
    """Roles that stay bit-identical."""
    shields: tuple[ShieldPlan, ...]
    trainable: int
    """Parameters of the trainable roles."""
    trainable_active: dict[str, int]
    """{modality: parameters that are both active for its tokens and trainable}."""
    memory: Memory


@dataclass(frozen=True)
class Parameters:
    """How many parameters the model has."""

    total: int
    backbone: int
    """The decoder: as many as the transformers model has before its experts are split."""
    added: int
    """What the split adds to the backbone (always 0: routers are sliced, experts are moved)."""
    vision: int
    projector: int
    latents: int
    roles: dict[str, int]
    """{role: parameters}; sums to `total`."""
    tensors: dict[str, int]
    """{role: number of tensors}."""


@dataclass(frozen=True)
class Active:
    """Parameters that a token of one modality passes through. What is counted is said in `parameters.py`."""

    total: int
    roles: dict[str, int]


@dataclass(frozen=True)
class Flops:
    """Floating-point operations for one token of one modality. The formula stands in `flops.py`."""

    forward: int
    training: int


@dataclass(frozen=True)
class Plan:
    """Everything derived from a recipe."""

    name: str
    vocab_size: int
    sequence_length: int
    groups: tuple[GroupPlan, ...]
    group_of: dict[str, int]
    """{modality: index into `groups`}."""
    vit_tokens: int
    """`vit` tokens per image; 0 without a vision encoder."""
    vae_tokens: int
    """`vae` tokens per image; 0 without a latent interface."""
    latent_dim: int
    """Values of one `vae` token: channels × patch height × patch width; 0 without a latent interface."""
    tensors: tuple[Tensor, ...]
    """Every parameter of the built model, each once."""
    roles: tuple[str, ...]
    """Every role that some tensor has, in reading order."""
    phases: tuple[PhasePlan, ...]
    total_steps: int
    total_tokens: int
    parameters: Parameters
    active: dict[str, Active]
    """{modality: …} for the modalities that this model can hold."""
    flops: dict[str, Flops]
    """{modality: …}, same keys as `active`."""
    processes: int
    """Data-parallel processes that the memory is worked out for."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, as written to plan.json and printed by `smoe plan --json`."""
        plan: dict[str, Any] = _plain(asdict(self))
        for phase, described in zip(self.phases, plan["phases"], strict=True):
            described["memory"]["total"] = phase.memory.total
        return plan


def _plain(value: Any) -> Any:
    """Tuples become lists, so that the result equals what JSON reads back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

"""The Plan: everything that follows from a recipe before any weight exists. Frozen, and JSON-able through `to_dict`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoe_cli.plan.source import Source


@dataclass(frozen=True)
class GroupPlan:
    """An expert group and the experts it takes from every layer of the backbone."""

    name: str
    modalities: tuple[str, ...]
    experts: tuple[tuple[int, ...], ...]
    """For each layer that has experts (`Plan.moe_layers`), ascending indices into the backbone's experts. A mounted group
    repeats those of the group it is mounted from, once for each copy."""
    pool: int = 0
    """Index into the family's pools of experts (`Anatomy.pools`)."""
    mounted_from: str | None = None
    """The group whose experts and router rows are copied."""
    noise: float = 0.0
    """Mounted groups: standard deviation of the noise on each tensor, as a share of its own."""

    @property
    def size(self) -> int:
        """Experts per layer."""
        return len(self.experts[0])


@dataclass(frozen=True)
class Origin:
    """Where a tensor of the built model gets its first value: the recipe for reading it from a checkpoint.

    names: tensors of the plain model as transformers names them in memory; several (gate and up of a dense feed-forward) are
    joined along dimension `axis`. rows: indices into dimension `axis`, in order, possibly repeated (experts, router rows); None
    for all. copies: the value is stacked this many times in a new first dimension (upcycling). The result is multiplied by
    `scale`, and noise with standard deviation `noise` × its own is added.
    built: set instead of `names` for a copy of what is fresh itself (routers of groups mounted in an upcycled model): the name
    of another tensor of the built model, without an origin of its own, whose `rows` are taken.
    """

    names: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None
    axis: int = 0
    copies: int | None = None
    scale: float = 1.0
    noise: float = 0.0
    built: str | None = None


FIXED = "fixed"
"""Role of what no gradient reaches and no optimizer owns: selection biases of routers, and the vision encoder of a multimodal
backbone in a model without `vision`. It is saved and loaded like any other."""


@dataclass(frozen=True)
class Tensor:
    """One parameter of the built model, under the name `named_parameters` gives it, or, with role FIXED, a tensor that training
    leaves alone. origin: None for fresh weights."""

    name: str
    shape: tuple[int, ...]
    role: str
    origin: Origin | None = None

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
    """The decoder, output head included."""
    added: int
    """What the decoder has more than the plain one: copies of experts, mounted or upcycled. A split by itself adds 0: routers
    are sliced, experts are moved."""
    left_out: int
    """Parameters of the plain decoder that this model does not have: shared experts with `shared: none`."""
    vision: int
    projector: int
    latents: int
    roles: dict[str, int]
    """{role: parameters}, FIXED included; sums to `total`."""
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
    moe_layers: tuple[int, ...]
    """Decoder layers that have experts."""
    top_k: int
    """Routed experts that a token is sent to."""
    promoted: tuple[tuple[int, ...], ...]
    """For each layer that has experts, those that became always on; () if none did."""
    kept: dict[str, dict[str, float]]
    """{modality: {"counts": …, "mass": …}}: share of its routed assignments, and of their weights, in the profile that went to
    experts which its tokens can still reach; {} without a profile."""
    image_positions: str
    """`shared`, `sequential` or `mrope`."""
    vit_tokens: int
    """`vit` tokens per image; 0 without a vision encoder."""
    vae_tokens: int
    """`vae` tokens per image; 0 without a latent interface."""
    latent_dim: int
    """Values of one `vae` token: channels × patch height × patch width; 0 without a latent interface."""
    tensors: tuple[Tensor, ...]
    """Every tensor of the built model that is saved, each once."""
    roles: tuple[str, ...]
    """Every role that some parameter can be trained in, in reading order; not FIXED."""
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
    source: Source = field(repr=False)
    """What the plan was compiled from besides the recipe."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, as written to plan.json and printed by `smoe plan --json`; not `source`."""
        plan: dict[str, Any] = _plain({f.name: _data(getattr(self, f.name)) for f in fields(self) if f.name != "source"})
        for phase, described in zip(self.phases, plan["phases"], strict=True):
            described["memory"]["total"] = phase.memory.total
        return plan


def _data(value: Any) -> Any:
    """Dataclasses become dicts, at any depth of tuples and dicts."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _data(item) for key, item in value.items()}
    return [_data(item) for item in value] if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    """Tuples become lists, so that the result equals what JSON reads back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

"""Where a model family keeps its router, experts and shared experts: data, one entry a family."""

from __future__ import annotations

from dataclasses import dataclass

from smoe_cli.errors import UserError


@dataclass(frozen=True)
class Anatomy:
    """Attribute names in the family's transformers classes.

    block: the MoE block within a decoder layer. router, experts: within the block. shared: the always-on MLP; shared_gate: its
    sigmoid gate, if any. num_experts: the count's name, in the config and as an attribute of router and experts.
    """

    block: str
    router: str
    experts: str
    shared: str
    shared_gate: str | None
    num_experts: str


ANATOMIES = {
    "qwen2_moe": Anatomy(
        block="mlp",
        router="gate",
        experts="experts",
        shared="shared_expert",
        shared_gate="shared_expert_gate",
        num_experts="num_experts",
    ),
}


def anatomy_of(family: str) -> Anatomy:
    """The entry of a family (`config.model_type`). Raises UserError naming the supported ones."""
    if family not in ANATOMIES:
        raise UserError(f"model family `{family}` is not supported", f"supported families: {', '.join(sorted(ANATOMIES))}")
    return ANATOMIES[family]

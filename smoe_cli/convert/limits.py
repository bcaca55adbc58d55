"""Expert-group limits (DeepSeek-V3, arXiv 2412.19437, section 2.1.2) of a model from which experts were left out.

The experts of a layer lie in n_group equal parts, and a token only uses those of its topk_group best parts. What is left of
the parts must again be equal parts in order, or all parts must be open to every token.
"""

from __future__ import annotations

from collections import Counter

from smoe_cli.errors import UserError
from smoe_cli.families import Backbone
from smoe_cli.plan import GroupPlan


def part_limits(backbone: Backbone, group: GroupPlan) -> dict[str, int]:
    """{config key: value} that make the plain family route as the group's router does; {} for families without limits.

    Raises UserError when no values do.
    """
    keys = backbone.anatomy.limits
    if keys is None:
        return {}
    parts, best = backbone.limits
    if parts == 1:
        return {}
    found = {_limits(experts, parts, best, backbone.num_experts) for experts in group.experts}
    if len(found) > 1 or None in found:
        sizes = Counter(expert * parts // backbone.num_experts for expert in group.experts[0])
        raise UserError(
            f"a plain `{backbone.family}` cannot route as group `{group.name}` does: tokens use the best {best} of {parts} "
            f"parts (`{keys[0]}`, `{keys[1]}`), of which this group holds {', '.join(map(str, sizes.values()))} experts",
            "load it with AutoModelForCausalLM after `import smoe_cli`, or split so that it holds as many of each part",
        )
    return dict(zip(keys, found.pop() or (), strict=True))


def _limits(experts: tuple[int, ...], parts: int, best: int, total: int) -> tuple[int, int] | None:
    """(n_group, topk_group) for one layer, or None."""
    sizes = Counter(expert * parts // total for expert in experts)
    if len(experts) > 1 and best >= len(sizes):
        return (1, 1)
    # the family's own code adds up the two best scores of a part
    return (len(sizes), best) if len(set(sizes.values())) == 1 and min(sizes.values()) > 1 else None

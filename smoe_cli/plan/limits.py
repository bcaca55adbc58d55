"""Expert-group limits (DeepSeek-V3, arXiv 2412.19437, section 2.1.2: node-limited routing).

The experts of a layer lie in `n_group` equal parts, in the order of their numbers. A token uses the `topk_group` parts with the
highest scores, and chooses its experts among those. In a group of experts a part is what the group has of it; parts of which it
has nothing are never chosen. Whichever parts a token uses, they have to hold as many experts as it is sent to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from smoe_cli.families import Backbone
from smoe_cli.plan.types import GroupPlan
from smoe_cli.recipe import Problem
from smoe_cli.recipe.routed import Routed
from smoe_cli.recipe.words import count


def check_limits(groups: Sequence[GroupPlan], backbone: Backbone, routed: Routed) -> Iterator[Problem]:
    """Groups in which a token could end up with too few experts; each is told once, with its first such layer."""
    parts, used = backbone.limits
    if parts == 1:
        return
    for index, group in enumerate(groups):
        for layer, experts in zip(backbone.moe_layers, group.experts, strict=True):
            sizes = sorted(Counter(expert * parts // routed.total for expert in experts).values())
            fewest = sum(sizes[:used])
            if fewest < routed.top_k:
                message = (
                    f"`{group.name}` may leave a token without experts: it uses {count(used, 'part')} of the {parts} that the "
                    f"experts of a layer lie in, and in layer {layer} {_least(used)} only {count(fewest, 'expert')} of this "
                    f"group; a token is sent to {routed.top_k}"
                )
                each = routed.total // parts
                help = f"take whole parts, {each} experts each: 0 to {each - 1}, {each} to {2 * each - 1}, …"
                yield Problem(("model", "groups", index, "select"), message, help)
                break


def _least(used: int) -> str:
    return "one may hold" if used == 1 else f"{used} may hold"

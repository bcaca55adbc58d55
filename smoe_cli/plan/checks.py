"""Whether a recipe fits the checkpoint, the vision encoder and the profile that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES, DENSE, Backbone
from smoe_cli.families.backbone import integer
from smoe_cli.plan.attention import attention_of
from smoe_cli.plan.limits import check_limits
from smoe_cli.plan.source import Source, backbone_path
from smoe_cli.plan.types import GroupPlan
from smoe_cli.plan.vision import encoder_sizes
from smoe_cli.recipe import Problem
from smoe_cli.recipe.checks.sizes import multiples
from smoe_cli.recipe.models import BytesTokenizer, FreshVision, OwnVision, Recipe, Shared
from smoe_cli.recipe.routed import Routed
from smoe_cli.recipe.sizes import BYTES_VOCABULARY, least_tokens
from smoe_cli.recipe.tree import Path
from smoe_cli.recipe.words import count

_SHARED: Path = ("model", "shared")


def check_family(recipe: Recipe, source: Source) -> Iterator[Problem]:
    """Whether the checkpoint is of the kind that the recipe takes it for. If not, nothing else can be said of it."""
    family, backbone = source.backbone.family, recipe.model.backbone
    if backbone.pretrained is not None and family in DENSE:
        message = f"`{backbone.pretrained.path}` is a dense `{family}`, without experts to split"
        yield Problem(
            backbone_path(recipe), message, f"make it sparse: `upcycle: {{from: {backbone.pretrained.path}, experts: …}}`"
        )
    if backbone.upcycle is not None and family in ANATOMIES:
        message = f"`{backbone.upcycle.from_}` is a `{family}`, which has experts already"
        yield Problem(backbone_path(recipe), message, f"use it as it is: `pretrained: {{path: {backbone.upcycle.from_}}}`")
    if backbone.upcycle is not None and family in DENSE:
        odd = [name for name, part in source.backbone.parts.items() if part.kind == "dense" and part.tail.endswith("bias")]
        if odd:
            message = f"feed-forward layers with biases cannot be upcycled: it has `{odd[0]}`"
            yield Problem(backbone_path(recipe), message)


def check_config(recipe: Recipe, source: Source) -> Iterator[Problem]:
    """Whether the backbone's config has the numbers that the plan reads; the rest of it is transformers' business."""
    backbone = source.backbone
    readers: list[Callable[[Backbone], object]] = [attention_of, lambda backbone: backbone.limits]
    if backbone.anatomy.multimodal:
        readers += [lambda backbone: backbone.vision_geometry, encoder_sizes]
    if backbone.text_config.get("max_position_embeddings") is not None:
        readers.append(lambda backbone: integer(backbone.text_config, "max_position_embeddings", least=1))
    for read in readers:
        try:
            read(backbone)
        except UserError as error:
            yield Problem(backbone_path(recipe), error.message, error.help or "correct the checkpoint's config.json")


def check_fit(recipe: Recipe, source: Source) -> Iterator[Problem]:
    """What neither groups nor profile have a part in."""
    yield from _shared(recipe, source.backbone)
    yield from _vision(recipe, source.backbone)
    yield from _positions(recipe, source.backbone)
    if recipe.model.backbone.scratch is None:  # the loader has looked at those from scratch
        yield from _vocabulary(recipe, source.backbone)
        yield from _length(recipe, source.backbone)
        yield from _kernel(recipe, source.backbone)


def check_promotion(recipe: Recipe, source: Source) -> Iterator[Problem]:
    """Whether experts can be promoted."""
    shared, backbone = recipe.model.shared, source.backbone
    if not isinstance(shared, Shared) or shared.promote is None or recipe.model.backbone.pretrained is None:
        return
    path = (*_SHARED, "promote")
    if backbone.has_shared:
        yield Problem(
            path, f"`{backbone.family}` has shared experts already; `promote` is for families without", "remove it", True
        )
    elif shared.promote >= backbone.top_k:
        message = f"{count(shared.promote, 'promoted expert')} of the {backbone.top_k} a token is sent to leave none to choose"
        yield Problem(path, message, f"at most {backbone.top_k - 1} can be promoted" if backbone.top_k > 1 else "remove it")


def _shared(recipe: Recipe, backbone: Backbone) -> Iterator[Problem]:
    shared = recipe.model.shared
    if recipe.model.backbone.pretrained is None or backbone.has_shared:
        return
    if shared is None:
        message = f"`{backbone.family}` has no shared experts, which every token would pass"
        help = "`shared: none` leaves it so; `shared: {promote: …}` makes the most used experts always on"
        yield Problem(_SHARED, message, help, key=True)
    elif isinstance(shared, Shared) and shared.promote is None:
        message = f"`{backbone.family}` has no shared experts"
        yield Problem(
            _SHARED, message, "write `shared: none`, or `promote: …` to make the most used experts always on", key=True
        )


def check_profile(recipe: Recipe, source: Source) -> Iterator[Problem]:
    """Whether the profile is one of this backbone."""
    profile, backbone, path = source.profile, source.backbone, ("model", "profile")
    if profile is None:
        return
    for what, mine, its in (
        ("family", profile.family, backbone.family),
        ("experts in a layer", profile.experts, backbone.num_experts),
        ("layers with experts", list(profile.layers), list(backbone.moe_layers)),
        ("top-k", profile.top_k, backbone.top_k),
        ("names, shapes and config (sha256)", profile.sha256, backbone.sha256),
    ):
        if mine != its:
            message = f"this is the profile of another model: {what} {_short(mine)}, the backbone's {_short(its)}"
            yield Problem(path, message, "write one of this backbone with `smoe profile MODEL --data …`")
            return
    if not any(sum(map(sum, table)) for table in profile.counts.values()):
        yield Problem(path, "the profile has seen no tokens", "run `smoe profile` on more data")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _vision(recipe: Recipe, backbone: Backbone) -> Iterator[Problem]:
    vision, path = recipe.model.vision, ("model", "vision")
    geometry = backbone.vision_geometry
    if isinstance(vision, OwnVision):
        if geometry is None:
            message = f"`{backbone.family}` is a text family, without a vision encoder of its own"
            yield Problem((*path, "family"), message, "use `family: pretrained`, or one with fresh weights (`vit`)")
            return
        side = geometry.patch_size * geometry.merge_size
        for name, pixels in zip(("height", "width"), vision.image_size, strict=True):
            if pixels % side:
                message = f"the {name} of the image, {pixels}, is not a multiple of {side}, the side of one token's square"
                yield Problem((*path, "image_size"), message, multiples(pixels, side))
    elif vision is not None and geometry is not None:
        message = f"`{backbone.family}` sees with a vision encoder of its own"
        yield Problem((*path, "family"), message, "use it: `vision: {family: own, image_size: […]}`")


def _positions(recipe: Recipe, backbone: Backbone) -> Iterator[Problem]:
    if recipe.model.image_positions == "mrope" and backbone.anatomy.positions != "mrope":
        message = f"`{backbone.family}` has one position for each token, not three"
        yield Problem(("model", "image_positions"), message, "use `shared` or `sequential`")


def _vocabulary(recipe: Recipe, backbone: Backbone) -> Iterator[Problem]:
    tokenizer = recipe.model.tokenizer
    if isinstance(tokenizer, BytesTokenizer) and backbone.vocab_size < BYTES_VOCABULARY:
        message = f"the built-in tokenizer has {BYTES_VOCABULARY} tokens, the backbone's embedding {backbone.vocab_size} rows"
        yield Problem(("model", "tokenizer"), message, "leave `tokenizer` out: the checkpoint has its own", key=True)


def _length(recipe: Recipe, backbone: Backbone) -> Iterator[Problem]:
    longest = backbone.text_config.get("max_position_embeddings")
    if longest is not None and recipe.data.sequence_length > longest:
        message = f"rows of {recipe.data.sequence_length} tokens, but the backbone knows {longest} positions"
        yield Problem(("data", "sequence_length"), message, "shorten the rows")


def _kernel(recipe: Recipe, backbone: Backbone) -> Iterator[Problem]:
    """torch's grouped matrix product needs rows of a multiple of 16 bytes."""
    if recipe.training.experts != "grouped_mm":
        return
    multiple = 8 if recipe.training.precision == "bf16" else 4
    kinds = ("dense",) if recipe.model.backbone.upcycle else ("experts",)
    widths = {n for name, part in backbone.parts.items() if part.kind in kinds for n in backbone.tensors[name][-2:]}
    if odd := sorted(width for width in widths if width % multiple):
        message = (
            f"experts with a width of {odd[0]}: the kernel `grouped_mm` needs multiples of {multiple} "
            f"in {recipe.training.precision}"
        )
        yield Problem(("training", "experts"), message, "set training.experts: eager")


def check_rows(recipe: Recipe, vit_tokens: int) -> Iterator[Problem]:
    """Whether a row holds a sample with an image, when only the files say how many tokens that takes."""
    if isinstance(recipe.model.vision, FreshVision | None):
        return
    for name, source in recipe.data.sources.items():
        needed, sum_ = least_tokens(recipe, source, vit_tokens)
        if source.task == "mmu" and needed > recipe.data.sequence_length:
            message = f"a sample of `{name}` takes {needed} tokens or more ({sum_}), a row has {recipe.data.sequence_length}"
            smaller = ", or use smaller images" if isinstance(recipe.model.vision, OwnVision) else ""
            yield Problem(("data", "sequence_length"), message, f"samples are never cut: lengthen the rows{smaller}")


def check_groups(groups: Sequence[GroupPlan], backbone: Backbone, routed: Routed) -> Iterator[Problem]:
    """Whether every group's experts lie in one pool, and can supply a token under the family's expert-group limits."""
    if len(routed.pools) > 1:
        names = backbone.anatomy.pools
        for index, group in enumerate(groups):
            for layer, experts in zip(backbone.moe_layers, group.experts, strict=True):
                pools = sorted({routed.pool(expert) for expert in experts})
                if len(pools) > 1 and group.mounted_from is None:
                    where = " and ".join(f"{names[n]} ({_range(routed, n)})" for n in pools)
                    message = f"`{group.name}` mixes experts of layer {layer} from {where}, which have routers of their own"
                    yield Problem(("model", "groups", index, "select"), message, "take a group's experts from one of them")
                    break
    yield from check_limits(groups, backbone, routed)


def _range(routed: Routed, pool: int) -> str:
    first = sum(routed.pools[:pool])
    return f"{first} to {first + routed.pools[pool] - 1}"

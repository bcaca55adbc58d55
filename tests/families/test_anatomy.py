"""What an anatomy says of a family, against what the family's classes in transformers do."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn

from smoe_cli.errors import UserError
from smoe_cli.families import ANATOMIES, DENSE, Anatomy, anatomy_of
from tests.families.tiny import DENSE_FAMILIES, FAMILIES, MULTIMODAL_FAMILIES, TEXT_FAMILIES, plain_model


def test_families_and_rows_of_tiny_are_the_same() -> None:
    assert set(ANATOMIES) == set(FAMILIES)
    assert set(DENSE) == set(DENSE_FAMILIES)
    assert {family for family, anatomy in ANATOMIES.items() if anatomy.multimodal} == set(MULTIMODAL_FAMILIES)
    assert not set(TEXT_FAMILIES) & set(MULTIMODAL_FAMILIES)


def test_an_unsupported_family() -> None:
    with pytest.raises(UserError, match="`mixtral` is not supported") as caught:
        anatomy_of("mixtral")
    assert all(family in str(caught.value.help) for family in (*ANATOMIES, *DENSE))


def blocks_of(model: nn.Module, anatomy: Anatomy) -> list[nn.Module]:
    """The blocks that have experts."""
    layers = model.get_submodule(f"{anatomy.decoder}.layers")
    blocks = [layer.get_submodule(anatomy.block) for layer in layers.children()]
    inside = ".".join(filter(None, (anatomy.pools[0], anatomy.experts)))
    return [block for block in blocks if any(name == inside for name, _ in block.named_modules())]


@pytest.mark.parametrize("family", [*FAMILIES, *DENSE_FAMILIES])
def test_paths_lead_to_modules(family: str) -> None:
    anatomy, model = anatomy_of(family), plain_model(family)
    decoder = model.get_submodule(anatomy.decoder)
    assert decoder is model.get_decoder()
    assert {name for name, _ in decoder.named_children()} >= {"embed_tokens", "layers", "norm"}
    for path in (*((anatomy.vision,) if anatomy.vision else ()), *anatomy.projector):
        assert sum(1 for _ in model.get_submodule(path).parameters()) > 0
    blocks = blocks_of(model, anatomy)
    assert bool(blocks) == (family in FAMILIES)
    for block in blocks:
        for path in filter(None, (anatomy.shared, anatomy.shared_gate)):
            block.get_submodule(path)
        for pool in anatomy.pools:
            router = block.get_submodule(".".join(filter(None, (pool, anatomy.router))))
            state = router.state_dict()
            assert (anatomy.bias in state) == (anatomy.bias is not None)
            assert len(state) == 1 + (anatomy.bias is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_experts_are_named_by_the_anatomy(family: str) -> None:
    """A block holds routers, experts, and what `shared` and `shared_gate` name; nothing else has weights."""
    anatomy = anatomy_of(family)
    for block in blocks_of(plain_model(family), anatomy):
        children = {name for name, child in block.named_children() if list(child.parameters())}
        pools = {anatomy.router, anatomy.experts} if anatomy.pools == ("",) else set(anatomy.pools)
        assert children == pools | set(filter(None, (anatomy.shared, anatomy.shared_gate)))


def route(x_TD: Tensor, router: nn.Module, anatomy: Anatomy, config: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, weights and indices as the fields of the anatomy say: the words of `anatomy.py`, written out slowly."""
    state = router.state_dict()
    bias_E = state.pop(anatomy.bias).flatten() if anatomy.bias else 0.0
    (weight_ED,) = state.values()
    logits_TE = x_TD @ weight_ED.T
    scores_TE = logits_TE.softmax(-1) if anatomy.scoring == "softmax" else logits_TE.sigmoid()
    weights, indices = [], []
    for scores_E in scores_TE:
        choice_E = scores_E + bias_E
        if anatomy.limits is not None:
            parts, best = config[anatomy.limits[0]], config[anatomy.limits[1]]
            of_part = [chunk.topk(2).values.sum() for chunk in choice_E.chunk(parts)]
            kept = torch.stack(of_part).topk(best).indices.tolist()
            choice_E = torch.cat(
                [c if i in kept else torch.full_like(c, -torch.inf) for i, c in enumerate(choice_E.chunk(parts))]
            )
        chosen = sorted(choice_E.topk(config[anatomy.top_k]).indices.tolist())
        weight = scores_E[chosen]
        renormalise = config[anatomy.renormalise] if isinstance(anatomy.renormalise, str) else anatomy.renormalise
        if renormalise:
            weight = weight / weight.sum()
        weights.append(weight * (config[anatomy.scaling] if anatomy.scaling else 1.0))
        indices.append(torch.tensor(chosen))
    return logits_TE, torch.stack(weights), torch.stack(indices)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_token_is_routed_as_the_fields_say(family: str, normalise: bool) -> None:
    anatomy = anatomy_of(family)
    own_key = isinstance(anatomy.renormalise, str)
    model = plain_model(family, **({"norm_topk_prob": normalise} if own_key else {}))
    config = model.config.get_text_config().to_dict()
    x_TD = torch.randn(50, config["hidden_size"], generator=torch.Generator().manual_seed(0))
    for block in blocks_of(model, anatomy):
        for pool in anatomy.pools:
            router = block.get_submodule(".".join(filter(None, (pool, anatomy.router))))
            logits, weights, indices = router(x_TD)
            order = indices.argsort(-1)
            expected_logits, expected_weights, expected_indices = route(x_TD, router, anatomy, config)
            torch.testing.assert_close(logits, expected_logits)
            assert torch.equal(indices.gather(-1, order), expected_indices)
            torch.testing.assert_close(weights.gather(-1, order), expected_weights)


@pytest.mark.parametrize("family", MULTIMODAL_FAMILIES)
def test_pixels_are_normalised_as_the_family_does_by_default(family: str) -> None:
    anatomy = anatomy_of(family)
    processor = getattr(transformers, anatomy.image_processor or "")
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (anatomy.pixel_mean, anatomy.pixel_std)
    assert processor.temporal_patch_size == (1 if anatomy.temporal_patch_size is None else 2)


@pytest.mark.parametrize("family", MULTIMODAL_FAMILIES)
def test_multimodal_decoders_have_three_positions(family: str) -> None:
    """Other positions along one axis change the output of an `mrope` family."""
    anatomy, model = anatomy_of(family), plain_model(family)
    assert anatomy.positions == "mrope"
    ids, positions = torch.arange(6).view(1, 6) + 3, torch.arange(6).expand(3, 1, 6)
    decoder = model.get_submodule(anatomy.decoder)
    with torch.no_grad():
        before = decoder(input_ids=ids, position_ids=positions).last_hidden_state
        for axis in range(3):
            moved = positions.clone()
            moved[axis, :, 3:] += 5
            assert not torch.equal(before, decoder(input_ids=ids, position_ids=moved).last_hidden_state)


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, *DENSE_FAMILIES])
def test_text_decoders_have_one(family: str) -> None:
    assert anatomy_of(family).positions == "rope"
    assert "mrope_section" not in (plain_model(family).config.to_dict().get("rope_parameters") or {})

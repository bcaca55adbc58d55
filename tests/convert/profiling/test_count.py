"""What a profile counts: equal to a replay of the routers by hand, for every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from smoe_cli.convert.profiling.data import Documents
from smoe_cli.convert.profiling.tally import STEP, Tally
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.errors import UserError
from smoe_cli.recipe.nodes import MODALITIES
from tests.convert.profiling.profiles import counter, replay, samples
from tests.families.tiny import FAMILIES, MULTIMODAL_FAMILIES, plain_model, write_checkpoint


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_equal_a_replay_by_hand(family: str, tmp_path: Path) -> None:
    ours = counter(write_checkpoint(family, tmp_path / family))
    documents = [ours.tokens(sample) for sample in samples(6, images=family in MULTIMODAL_FAMILIES)]
    tally = ours.count(documents)
    counts, mass = torch.zeros_like(tally.counts), torch.zeros(tally.counts.shape, dtype=torch.float64)
    plain = plain_model(family)
    for document in documents:
        own_counts, own_mass = replay(plain, ours.backbone, document)
        counts += torch.tensor(own_counts)
        mass += torch.tensor(own_mass, dtype=torch.float64)
    assert torch.equal(tally.counts, counts)
    torch.testing.assert_close(tally.mass.double() / STEP, mass, rtol=1e-5, atol=1e-5)
    # every token went to top_k experts of every layer, and padding nowhere
    tokens = torch.tensor([sum(d.modality.count(m) for d in documents) for m in range(len(MODALITIES))])
    assert torch.equal(tally.tokens, tokens)
    assert (tally.counts.sum(-1) == tokens * ours.backbone.top_k).all()


@pytest.mark.parametrize("family", ["deepseek_v3", "ernie4_5_vl_moe", "qwen3_5_moe"])
def test_counts_do_not_depend_on_the_batch(family: str, tmp_path: Path) -> None:
    ours = counter(write_checkpoint(family, tmp_path / family))
    documents = [ours.tokens(sample) for sample in samples(9, images=family in MULTIMODAL_FAMILIES)]
    whole = ours.count(documents)
    for size in (1, 4):
        parts = Tally(*whole.counts.shape[::2])
        for start in range(0, 9, size):
            parts.add(ours.count(documents[start : start + size]))
        assert torch.equal(parts.counts, whole.counts)
        assert torch.equal(parts.tokens, whole.tokens)
        assert int((parts.mass - whole.mass).abs().max()) <= 100 * STEP * 1e-6


def test_two_pools_are_numbered_one_after_the_other(tmp_path: Path) -> None:
    ours = counter(write_checkpoint("ernie4_5_vl_moe", tmp_path / "ernie"))
    tokens, counts, _ = ours.count([ours.tokens(sample) for sample in samples(4, images=True)]).tables()
    assert ours.backbone.pool_sizes == (8, 8)
    assert list(tokens) == ["text", "vit"]
    for modality, own in (("text", slice(0, 8)), ("vit", slice(8, 16))):
        for row in counts[modality]:
            assert sum(row[own]) == sum(row) == tokens[modality] * 2


def test_long_documents_are_cut_and_images_are_not(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3_vl_moe", tmp_path / "vlm")
    text, image = samples(2, images=True)
    short = counter(folder, max_tokens=5)
    assert len(short.tokens(text).ids) == 5
    with pytest.raises(BadRow, match="longer than a document"):
        short.tokens(image)
    assert counter(folder, max_tokens=10_000).max_tokens == 256  # the model's own limit


def test_text_never_stands_for_an_image(tmp_path: Path) -> None:
    ours = counter(write_checkpoint("qwen3_vl_moe", tmp_path / "vlm"))
    document = ours.tokens(Sample("lm", text="<image></image><eos>"))
    assert len(document.ids) == 1 + len("<image></image><eos>")
    assert set(document.modality) == {0}


def test_an_image_of_a_given_size(tmp_path: Path) -> None:
    folder = write_checkpoint("glm4v_moe", tmp_path / "vlm")
    image = samples(2, images=True)[1]
    assert image.image is not None
    own, fixed = (counter(folder, image_size=size).tokens(image) for size in (None, (32, 48)))
    assert fixed.modality.count(1) == 2 * 3
    assert own.modality.count(1) != 2 * 3


def test_the_checkpoint_says_how_images_are_prepared(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3_vl_moe", tmp_path / "vlm")
    image = samples(2, images=True)[1]
    documents = Documents("pictures", "", "mmu", 1, lambda i: image, str)
    with pytest.raises(UserError, match=r"has no preprocessor_config\.json"):
        counter(folder).check(documents)
    settings = {"patch_size": 8, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    settings["size"] = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    found = []
    for name, content in (("preprocessor_config.json", settings), ("processor_config.json", {"image_processor": settings})):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        ours = counter(folder)
        ours.check(documents)
        patches = ours.tokens(image).patches
        assert patches is not None
        found.append(patches.values)
        (folder / name).unlink()
    assert torch.equal(*found)
    assert -1 <= found[0].min() < found[0].max() <= 1

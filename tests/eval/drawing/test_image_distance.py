from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.image_distance import LARGEST_SUBSET, SUBSETS, distances, few
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.run import evaluate
from smoe_cli.recipe.measures import ImageDistance
from tests.eval.drawing.seeing import write_vit
from tests.eval.folders import build
from tests.helpers import tiny


def features(count: int, seed: int, shift: float = 0.0, width: int = 6) -> Tensor:
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise * torch.arange(1, width + 1) / 3 + shift


def slow_frechet(real: np.ndarray, drawn: np.ndarray) -> float:
    """Dowson and Landau 1982, with the symmetric root: tr (Σ₁Σ₂)^½ = tr (Σ₁^½ Σ₂ Σ₁^½)^½."""
    values, vectors = np.linalg.eigh(np.cov(real, rowvar=False))
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    inner = np.sqrt(np.linalg.eigvalsh(root @ np.cov(drawn, rowvar=False) @ root)).sum()
    traces = np.trace(np.cov(real, rowvar=False)) + np.trace(np.cov(drawn, rowvar=False))
    return float(((real.mean(0) - drawn.mean(0)) ** 2).sum() + traces - 2 * inner)


def slow_mmd(real: list[list[float]], drawn: list[list[float]]) -> float:
    """Bińkowski et al. 2018, eq. 4, term by term."""

    def kernel(x: list[float], y: list[float]) -> float:
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    m = len(real)
    same = sum(kernel(a[i], a[j]) for a in (real, drawn) for i in range(m) for j in range(m) if i != j)
    return same / (m * (m - 1)) - 2 * sum(kernel(x, y) for x in real for y in drawn) / m**2


def test_both_distances_equal_slow_references() -> None:
    real, drawn = features(40, 0), features(30, 1, 0.5)
    found = distances(real, drawn, seed=7)
    assert found.fid == pytest.approx(slow_frechet(real.numpy(), drawn.numpy()), rel=1e-9)
    assert found.subset_size == 15
    rng = torch.Generator().manual_seed(7)
    subsets = []
    for _ in range(SUBSETS):
        chosen = [one[torch.randperm(len(one), generator=rng)[:15]].tolist() for one in (real, drawn)]
        subsets.append(slow_mmd(*chosen))
    assert found.kid == pytest.approx(np.mean(subsets), rel=1e-9)
    assert found.kid_deviation == pytest.approx(np.std(subsets), rel=1e-9)


def test_a_set_is_at_no_distance_from_itself_and_further_from_others() -> None:
    real = features(400, 0)
    same, near, far = (distances(real, other, 0) for other in (real, features(400, 1, 0.2), features(400, 2, 1.0)))
    assert same.fid == pytest.approx(0, abs=1e-6)
    assert abs(same.kid) < near.kid < far.kid
    assert same.fid < near.fid < far.fid


def test_kid_is_unbiased() -> None:
    """Of sets from one distribution it lies around 0, however few pictures they have; fid lies above."""
    pairs = [distances(features(20, 2 * index), features(20, 2 * index + 1), 0) for index in range(30)]
    kids = [pair.kid for pair in pairs]
    assert abs(np.mean(kids)) < 2 * np.std(kids) / np.sqrt(len(kids))
    assert min(pair.fid for pair in pairs) > 0.1


def test_subsets_are_not_larger_than_the_papers() -> None:
    many = torch.zeros(2 * LARGEST_SUBSET + 2, 2, dtype=torch.float64)
    assert distances(many, many, 0).subset_size == LARGEST_SUBSET
    assert distances(many[:2], many[:2], 0).subset_size == 2


def test_few_pictures_are_told_of() -> None:
    assert few(1281, 1280, "x") == []
    assert "not full rank" in few(1280, 1280, "x")[0]


def test_a_model_is_measured_and_random_states_are_left(tmp_path: Path) -> None:
    opened = OpenModel(*build(tiny()))
    task = ImageDistance(
        task="image-distance", source="draw", images=6, seed=3, keep=2, extractor=str(write_vit(tmp_path / "vit"))
    )
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    [result] = evaluate(opened, [task], tmp_path / "eval", prefix="joint-", batch_size=4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert list(result.metrics) == ["kid/vit", "fid/vit"]
    assert {metric.better for metric in result.metrics.values()} == {"lower"}
    protocol: dict[str, Any] = result.protocol
    assert (protocol["seed"], protocol["images"], protocol["source"], protocol["split"]) == (3, 6, "draw", "heldout")
    assert protocol["extractor"]["name"] == "vit"
    assert protocol["sampling"]["steps"] == 50
    assert [text for text in result.warnings if "not full rank" in text]
    names = sorted(path.name for path in (tmp_path / "eval" / "data" / "joint-image-distance").iterdir())
    assert names == ["000003.png", "000004.png", "metadata.jsonl"]
    [again] = evaluate(opened, [task], batch_size=6)
    assert again.metrics["kid/vit"].value == pytest.approx(result.metrics["kid/vit"].value, rel=1e-3)
    assert {**again.protocol} == protocol
    assert again.hashes == result.hashes


def test_one_picture_is_too_few() -> None:
    opened = OpenModel(*build(tiny()))
    with pytest.raises(UserError, match="sets of two pictures or more"):
        evaluate(opened, [ImageDistance(task="image-distance", source="draw", images=1)])


def test_a_plain_model_does_not_draw() -> None:
    model, tokenizer = build(tiny())
    with pytest.raises(UserError, match="task `image-distance` asks for drawings"):
        evaluate(OpenModel(model.backbone, tokenizer), [ImageDistance(task="image-distance", data="x")])


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="torchmetrics is not installed") as caught:
        evaluate(OpenModel(*build(tiny())), [ImageDistance(task="image-distance", source="draw")])
    assert caught.value.help == "pip install 'smoe[generation]'"

"""How far drawings are from true pictures of the same captions: Fréchet (FID) and kernel (KID) distances of their features.

FID: Heusel et al. 2017, arXiv:1706.08500. KID: Bińkowski et al. 2018, arXiv:1801.01401. Both as torchmetrics has them.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.captions import captions_of
from smoe_cli.eval.drawing.drawings import draw_captions
from smoe_cli.eval.drawing.extractors import open_extractor
from smoe_cli.eval.drawing.png import drawing_settings
from smoe_cli.eval.models import Asking
from smoe_cli.eval.provenance import versions
from smoe_cli.eval.results import Metric, Result
from smoe_cli.recipe.measures import ImageDistance

SUBSETS = 100
LARGEST_SUBSET = 1000
"""Of pictures, in one estimate of KID: as in the paper's code."""


def run_image_distance(asking: Asking, task: ImageDistance) -> Result:
    """Draw captions and measure how far the drawings are from the pictures that the captions are of."""
    check_torchmetrics(task.task)
    drawer = asking.opened.drawer(task.task)
    captions = captions_of(task, task.task, asking.opened.recipe)
    if captions.count < 2:
        raise UserError(f"{task.task}: a distance is between sets of two pictures or more, and there is 1", "raise `images`")
    extract = open_extractor(task.extractor, drawer.model.device)
    real = torch.cat(
        [extract([sample.image for sample in batch if sample.image]) for batch in captions.walk(asking.batch_size)]
    )
    drawn = torch.cat([extract(images) for images in draw_captions(asking, task.task, captions.texts, task.seed, task.keep)])
    found = distances(real, drawn, task.seed)
    told = list(few(captions.count, real.shape[1], extract.name))
    if captions.count < task.images:
        told.append(f"{captions.count} pictures: the data have no more")
    return Result(
        task=task.task,
        name=task.task,
        metrics={
            f"kid/{extract.name}": Metric(found.kid, better="lower"),
            f"fid/{extract.name}": Metric(found.fid, better="lower"),
        },
        details={
            "images": captions.count,
            "features": real.shape[1],
            "kid_standard_deviation_over_subsets": found.kid_deviation,
        },
        protocol={
            **captions.facts,
            "seed": task.seed,
            "images": captions.count,
            "sampling": drawing_settings(drawer.sampling),
            "extractor": extract.facts,
            "kid": {"subsets": SUBSETS, "subset_size": found.subset_size, "kernel": "(x·y / D + 1)³, unbiased"},
            "prompt_sha256": captions.prompt_sha256,
        },
        hashes={"data": captions.hashes},
        versions=versions("torchmetrics"),
        warnings=tuple(told),
    )


@dataclass(frozen=True)
class Distances:
    """Two distances between the same two sets of features."""

    fid: float
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½)."""
    kid: float
    """Unbiased squared maximum mean discrepancy under (x·y / D + 1)³, mean over subsets."""
    kid_deviation: float
    """Standard deviation over the subsets."""
    subset_size: int


def distances(real: Tensor, drawn: Tensor, seed: int) -> Distances:
    """Distances between two sets of features, (N, D) and (M, D) float64; N, M ≥ 2.

    seed: of the choice of KID's subsets, of half the smaller set or at most 1000 pictures each. The random state is left as it
    was.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(LARGEST_SUBSET, max(2, min(len(real), len(drawn)) // 2))
    given = _Given(real.shape[1])
    # no process but this one measures, although a training may have others
    fid = FrechetInceptionDistance(feature=given, sync_on_compute=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        kid = KernelInceptionDistance(feature=given, subsets=SUBSETS, subset_size=size, sync_on_compute=False)
    for metric in (fid, kid):
        metric.update(real, real=True)
        metric.update(drawn, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, deviation = kid.compute()
    return Distances(float(fid.compute()), float(mean), float(deviation), size)


class _Given(nn.Module):
    """What torchmetrics takes for a feature extractor, when the features are there already: each picture is looked at once."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def few(images: int, features: int, name: str) -> list[str]:
    """What to tell of a Fréchet distance of so few pictures that their covariance has not full rank."""
    if images > features:
        return []
    return [
        f"fid/{name} of {images} pictures, whose covariance of {features} features has not full rank, is far too high: compare "
        f"it only with that of as many pictures, or take kid/{name}, which does not depend on their number"
    ]


def check_torchmetrics(task: str) -> None:
    """Raise UserError when the package is missing."""
    if not importlib.util.find_spec("torchmetrics"):
        raise UserError(f"{task}: the package torchmetrics is not installed", "pip install 'smoe[generation]'")

"""How well drawings fit their captions, as a CLIP model sees it: 100 · max(cos(picture, caption), 0).

CLIPScore: Hessel et al. 2021, arXiv:2104.08718, eq. 1, who scale by 2.5; papers on drawing scale by 100, as torchmetrics does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.captions import captions_of
from smoe_cli.eval.drawing.drawings import draw_captions
from smoe_cli.eval.drawing.png import drawing_settings
from smoe_cli.eval.drawing.towers import UNFIT, open_image_processor, open_pretrained, preprocessing
from smoe_cli.eval.models import Asking
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.results import Metric, Result
from smoe_cli.recipe.measures import ClipScore


def run_clip_score(asking: Asking, task: ClipScore) -> Result:
    """Draw captions and score each drawing; the true pictures of the same captions are scored too, to hold it against."""
    drawer = asking.opened.drawer(task.task)
    captions = captions_of(task, task.task, asking.opened.recipe)
    clip = open_clip(Path(task.clip).expanduser(), drawer.model.device)
    true: list[float] = []
    for batch in captions.walk(asking.batch_size):
        true += clip.scores([sample.image for sample in batch if sample.image], [sample.text for sample in batch])
    scores: list[float] = []
    for images in draw_captions(asking, task.task, captions.texts, task.seed, task.keep):
        scores += clip.scores(images, captions.texts[len(scores) : len(scores) + len(images)])
    cut = sum(map(clip.is_cut, captions.texts))
    told = [f"{cut} of {len(scores)} captions were cut to the {clip.longest} tokens that the CLIP model reads"] if cut else []
    if captions.count < task.images:
        told.append(f"{captions.count} pictures: the data have no more")
    return Result(
        task=task.task,
        name=task.task,
        metrics={f"clip-score/{clip.name}": Metric(sum(scores) / len(scores), standard_error(scores))},
        details={"images": len(scores), "score_of_true_pictures": sum(true) / len(true)},
        protocol={
            **captions.facts,
            "seed": task.seed,
            "images": captions.count,
            "sampling": drawing_settings(drawer.sampling),
            "clip": clip.facts,
            "score": "100 · max(cos, 0), mean over pictures",
            "prompt_sha256": captions.prompt_sha256,
        },
        hashes={"data": captions.hashes},
        predictions=tuple(
            Prediction(str(index), value=score, facts={"caption": caption, "seed": task.seed + index})
            for index, (score, caption) in enumerate(zip(scores, captions.texts, strict=True))
        ),
        warnings=tuple(told),
    )


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None of a single value."""
    n, mean = len(values), sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else None


@dataclass(frozen=True)
class Clip:
    """A CLIP or SigLIP model, on its device."""

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any
    longest: int
    """Tokens of a caption, special ones included."""
    facts: dict[str, Any]

    @torch.inference_mode()
    def scores(self, images: Sequence[Image.Image], captions: Sequence[str]) -> list[float]:
        """100 · max(cos, 0) of each picture and its caption."""
        inputs = self.tokenizer(
            list(captions), return_tensors="pt", padding=self.facts["padding"], truncation=True, max_length=self.longest
        )
        inputs |= self.image_processor(images=list(images), return_tensors="pt")
        output = self.model(**inputs.to(self.model.device))
        cosine = torch.nn.functional.cosine_similarity(output.image_embeds.double(), output.text_embeds.double(), dim=-1)
        return (100 * cosine.clamp_min(0)).tolist()

    def is_cut(self, caption: str) -> bool:
        """Whether a caption is longer than what the model reads."""
        return len(self.tokenizer(caption, verbose=False)["input_ids"]) > self.longest


def open_clip(folder: Path, device: torch.device) -> Clip:
    """The model in a folder of transformers that embeds pictures and texts. Raises UserError when there is none."""
    if not folder.is_dir():
        raise UserError(
            f"clip-score: {folder}: no such folder", "`clip` is the folder of a CLIP or SigLIP model of transformers"
        )
    model, missing = open_pretrained(folder)
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise UserError(f"{folder}: lacks the tensor `{missing[0]}`{more}", "copy the folder again")
    kind = model.config.model_type
    unfit = f"{folder}: a `{kind}` model, which does not embed both pictures and texts"
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise UserError(unfit)
    tokenizer, image_processor = read_tokenizer(str(folder)), open_image_processor(folder)
    name = folder.resolve().name
    facts = {
        "name": name,
        "sha256": hash_weights(model),
        "preprocessing": preprocessing(image_processor),
        # SigLIP was trained on captions that are all as long as the longest
        "padding": "max_length" if kind.startswith("siglip") else "longest",
    }
    try:
        longest = min(model.config.text_config.max_position_embeddings, tokenizer.model_max_length)
        clip = Clip(name, model.to(device), tokenizer, image_processor, longest, facts)
        clip.scores([Image.new("RGB", (32, 32))], ["a"])
    except UNFIT as error:
        raise UserError(f"{unfit}: {error}") from error
    return clip

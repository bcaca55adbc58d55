from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.clip_score import open_clip, standard_error
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.run import evaluate
from smoe_cli.recipe.measures import ClipScore
from tests.eval.drawing.seeing import LETTERS, write_clip, write_siglip, write_vit
from tests.eval.folders import build
from tests.helpers import tiny

CPU = torch.device("cpu")
CAPTIONS = ["red", "a blue one", "12", "no, not this one at all"]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)) for _ in CAPTIONS]


def slow_score(folder: Path, picture: Image.Image, caption: str) -> float:
    """One picture and one caption: both towers and projections by hand, nothing padded."""
    model = AutoModel.from_pretrained(folder).eval()
    pixels = np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = ((pixels - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3]).transpose(2, 0, 1)
    ids = [3 + LETTERS.index("Ġ" if sign == " " else sign) for sign in caption]
    ids = [1, *ids[:10], 2]
    with torch.inference_mode():
        seen = model.vision_model(pixel_values=torch.tensor(pixels[None], dtype=torch.float32)).pooler_output
        read = model.text_model(input_ids=torch.tensor([ids])).pooler_output
        a, b = model.visual_projection(seen)[0].tolist(), model.text_projection(read)[0].tolist()
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return 100 * max(cosine, 0)


def test_scores_equal_a_slow_reference(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "small-clip")
    clip = open_clip(folder, CPU)
    found = clip.scores(pictures(), CAPTIONS)
    expected = [slow_score(folder, picture, caption) for picture, caption in zip(pictures(), CAPTIONS, strict=True)]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert any(found)
    assert [clip.is_cut(caption) for caption in CAPTIONS] == [False, False, False, True]


def test_captions_of_siglip_are_padded_as_it_was_trained(tmp_path: Path) -> None:
    clip = open_clip(write_siglip(tmp_path / "siglip"), CPU)
    assert clip.facts["padding"] == "max_length"
    alone = [clip.scores([picture], [caption])[0] for picture, caption in zip(pictures(), CAPTIONS, strict=True)]
    assert clip.scores(pictures(), CAPTIONS) == pytest.approx(alone, rel=1e-4, abs=1e-4)


def test_a_model_is_measured(tmp_path: Path) -> None:
    opened = OpenModel(*build(tiny()))
    task = ClipScore(task="clip-score", source="draw", images=5, clip=str(write_clip(tmp_path / "small-clip")))
    state = torch.get_rng_state()
    [result] = evaluate(opened, [task], tmp_path / "eval", batch_size=2)
    assert torch.equal(torch.get_rng_state(), state)
    values = [one.value for one in result.predictions]
    assert [len(values), list(result.metrics)] == [5, ["clip-score/small-clip"]]
    assert result.main.value == pytest.approx(sum(value for value in values if value is not None) / 5)
    assert result.main.standard_error is not None
    assert result.details["score_of_true_pictures"] >= 0
    assert result.protocol["clip"]["name"] == "small-clip"
    assert len(list((tmp_path / "eval" / "data" / "clip-score").glob("*.png"))) == 5
    assert result.predictions[1].facts.keys() == {"caption", "seed"}


def test_standard_error() -> None:
    assert standard_error([1.0]) is None
    assert standard_error([1.0, 3.0]) == pytest.approx(np.std([1, 3], ddof=1) / math.sqrt(2))


def test_folders_that_are_no_clip_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_clip(tmp_path / "nowhere", CPU)
    with pytest.raises(UserError, match="`vit` model, which does not embed both"):
        open_clip(write_vit(tmp_path / "vit"), CPU)
    folder = write_clip(tmp_path / "clip")
    settings = folder / "preprocessor_config.json"
    whole = settings.read_text(encoding="utf-8")
    settings.write_text(whole.replace('"width": 16', '"width": 24'), encoding="utf-8")
    with pytest.raises(UserError, match="`clip` model, which does not embed both pictures and texts"):  # of this size
        open_clip(folder, CPU)
    settings.write_text(whole, encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer"):
        open_clip(folder, CPU)

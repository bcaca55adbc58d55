"""`smoe generate`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from smoe_cli.cli.main import run
from smoe_cli.files import sha256
from smoe_cli.model.folder import write_manifest
from tests.eval.folders import READING_ONLY, write_model
from tests.helpers import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sampling = {"steps": 2, "guidance": 3.0, "prompts": ["7"]}
    return write_model(tmp_path_factory.mktemp("models") / "model", tiny(**{"training.sampling": sampling}))


def generate(*arguments: object) -> int:
    return run(["generate", *map(str, arguments)])


def settings(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)


def test_pictures(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (model, "--prompt", "42", "--prompt", "6", "--out", tmp_path, "--seed", 3, "--count", 2)
    assert generate(*arguments) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["42-seed3.png", "6-seed3.png", "42-seed4.png", "6-seed4.png"]
    same = {
        "prompt": "42",
        "seed": "3",
        "guidance_interval": "[0.4, 1.0]",
        "renormalise": "false",
        "model_sha256": sha256(model / "model.safetensors"),
    }
    assert settings(paths[0]) == same | {"steps": "2", "guidance": "3.0", "shift": "3.0"}  # the recipe's
    before = paths[0].read_bytes()

    assert generate(*arguments[:-4], "--seed", 3, "--steps", 1, "--guidance", 1, "--shift", 2) == 0
    again = Path(capsys.readouterr().out.splitlines()[0])
    assert again.name == "42-seed3-2.png"
    assert settings(again) == same | {"steps": "1", "guidance": "1.0", "shift": "2.0"}
    assert paths[0].read_bytes() == before


def test_the_recipe_s_prompts(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(model) == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")] == ["generated/7-seed0.png"]


def test_an_answer_about_an_image(model: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    assert generate(model, "--image", tmp_path / "a.png", "--prompt", "What?", "--max-new-tokens", 3) == 0
    assert capsysbinary.readouterr().out.endswith(b"\n")


def test_an_image_with_a_similar_name(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "photo.png")
    assert generate(model, "--image", tmp_path / "foto.png") == 2
    assert f"foto.png: no image file\n  help: did you mean `{tmp_path / 'photo.png'}`?\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--image", "nowhere.png", "--prompt", "?"),
            "error: nowhere.png: no image file\n  help: --image takes the path of a picture, such as a PNG or JPEG\n",
        ),
        (("--image", "nowhere.png", "--steps", "3", "--out", "x"), "--out, --steps: no effect with --image"),
        (("--prompt", "7", "--max-new-tokens", "3"), "--max-new-tokens: no effect without --image"),
        (("--prompt", "7", "--steps", "0"), "--steps"),
        (("--prompt", "7", "--guidance", "0.5"), "--guidance"),
        (("--prompt", "7", "--shift", "0"), "--shift"),
        (("--prompt", "7", "--shift", "inf"), "'--shift': inf is not a finite number"),
        (("--prompt", "7", "--shift", "nan"), "'--shift': nan is not a finite number"),
        (("--prompt", "7", "--guidance", "nan"), "'--guidance': nan is not a finite number"),
        (("--prompt", "7", "--guidance", "inf"), "'--guidance': inf is not a finite number"),
        (("--prompt", "7", "--prompt", "a\udcff"), r"prompt 'a\udcff': text is not valid Unicode"),
        (("--prompt", "x" * 5000), "5002 tokens of prompt and 4 of the image do not fit the model's 4096 positions"),
    ],
)
def test_mistakes_end_with_code_2(
    model: Path,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(model, *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_questions_that_cannot_be_asked(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    ask = (model, "--image", tmp_path / "a.png", "--prompt")
    assert generate(*ask, "a\udcff") == 2
    assert r"prompt 'a\udcff': text is not valid Unicode" in capsys.readouterr().err
    assert generate(*ask, "?", "--max-new-tokens", 4096) == 2
    assert "4096 of the answer do not fit the model's 4096 positions" in capsys.readouterr().err


def test_out_is_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert generate(model, "--prompt", "7", "--out", tmp_path / "file") == 2
    assert f"{tmp_path / 'file'}: cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_models_that_lack_what_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = write_model(tmp_path / "reader", tiny(**READING_ONLY))
    assert generate(reader, "--prompt", "7", "--out", tmp_path / "out") == 2
    assert "cannot draw: it has no latent interface" in capsys.readouterr().err

    sources = {"draw": {"kind": "rendered-text", "task": "t2i", "image_size": [8, 16], "length": [1, 2]}}
    groups = [
        {"name": "text", "modalities": ["text"], "experts": 4, "select": "first"},
        {"name": "generation", "modalities": ["vae"], "experts": 2},
    ]
    phases = [{"name": "draw", "steps": 4, "tokens_per_step": 256, "mixture": {"draw": 1}, "learning_rate": {"default": 1e-3}}]
    changes = {"model.vision": None, "model.groups": groups, "data.sources": sources, "phases": phases}
    artist = write_model(tmp_path / "artist", tiny(**changes))
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    assert generate(artist, "--image", tmp_path / "a.png", "--prompt", "?") == 2
    assert "cannot read images: it has no vision encoder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_benchmark_s_folders(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "color_val.txt"
    prompts.write_text("a green bench\na red book\n", encoding="utf-8")
    arguments = (model, "--layout", "t2i-compbench", "--prompts", prompts, "--out", tmp_path / "out", "--count", 2)
    assert generate(*arguments) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in written] == [
        "a green bench_000000.png",
        "a green bench_000001.png",
        "a red book_000002.png",
        "a red book_000003.png",
    ]
    assert settings(written[3])["seed"] == "1"
    assert generate(*arguments) == 0
    assert capsys.readouterr().out == ""
    assert generate(*arguments, "--steps", 3) == 2
    assert "holds drawings with another `sampling`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layout", "geneval"), "--layout and --prompts go together"),
        (("--prompts", "prompts.txt"), "--layout and --prompts go together"),
        (("--layout", "geneval", "--prompts", "prompts.txt", "--prompt", "7"), "--prompt: no effect with --layout"),
        (("--layout", "geneval", "--prompts", "prompts.txt"), "prompts.txt: no such file"),
        (("--image", "a.png", "--layout", "geneval", "--prompts", "p"), "--layout, --prompts: no effect with --image"),
    ],
)
def test_layouts_and_other_options(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert generate(model, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_model_in_shards(model: Path, tmp_path: Path) -> None:
    """Such as `smoe convert` writes of large models."""
    tensors = load_file(model / "model.safetensors")
    folder = tmp_path / "sharded"
    folder.mkdir()
    for path in model.iterdir():
        if path.name not in ("model.safetensors", "manifest.json"):
            (folder / path.name).write_bytes(path.read_bytes())
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    write_manifest(folder)
    assert generate(folder, "--prompt", "42", "--out", tmp_path / "out") == 0
    assert len(settings(tmp_path / "out" / "42-seed0.png")["model_sha256"]) == 64

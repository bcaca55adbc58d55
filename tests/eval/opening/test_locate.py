"""From what a user names to a model: runs, checkpoints, model folders, plain folders, models of the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from smoe_cli.cli.main import run
from smoe_cli.errors import UserError
from smoe_cli.eval.opening.locate import find, model_folder, open_model, open_to_measure, recipe_of, run_directory
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.run import evaluate
from smoe_cli.model.checkpoint import load_checkpoint, recipe_file
from smoe_cli.model.folder import write_manifest
from smoe_cli.recipe.measures import ArcEasy
from tests.eval.folders import write_run
from tests.eval.tiny import write_arc
from tests.families.tiny import write_checkpoint
from tests.train import runs


def test_run_directories_and_model_folders(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert model_folder(folder) == model_folder(folder / "model") == folder / "model"
    assert run_directory(folder) == run_directory(folder / "model") == folder
    assert run_directory(tmp_path) is None
    exported = write_checkpoint("qwen3", folder / "exported")
    assert run_directory(exported) is None, "a model that was made of the run's is another"
    assert run_directory(folder.rename(tmp_path / "model")) == tmp_path / "model"
    folder = (tmp_path / "model").rename(folder)
    model, tokenizer = open_model(folder / "model")
    assert not model.training
    assert tokenizer.encode("a") == [5 + ord("a")]
    opened = open_to_measure(folder)
    assert opened.identity == {
        "path": str(folder),
        "kind": "symbiotic",
        "recipe": "tiny",
        "recipe_sha256": opened.identity["recipe_sha256"],
    }


def test_what_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"neither a model folder \(no smoe\.yaml\), nor .*\(no config\.json\)"):
        find(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: a file, not a folder"):
        find(tmp_path / "file")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="has no final model yet") as caught:
        find(tmp_path)
    assert "name a checkpoint" not in str(caught.value)
    (tmp_path / "checkpoints" / "step-00000004").mkdir()
    with pytest.raises(UserError, match=r"name a checkpoint: .*step-00000004"):
        find(tmp_path)
    with pytest.raises(UserError, match=r"checkpoints: holds 1 checkpoint(.|\n)*name one of them: .*step-00000004"):
        find(tmp_path / "checkpoints")
    assert run(["eval", str(tmp_path / "nowhere")]) == 2


@pytest.fixture(scope="module", params=["averaged", "as trained"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two checkpoints, which keeps averages or does not."""
    changes = {"training.checkpoints": {"every": 4, "keep": 9}, "evaluation": {"tasks": []}}
    averages = {"decay": 0.9} if request.param == "averaged" else None
    return runs.run(tmp_path_factory.mktemp(request.param), **changes, **{"training.ema": averages})


def test_the_last_checkpoint_is_the_final_model(trained: Path, tmp_path: Path) -> None:
    """The same hash of the weights, and the same numbers, of texts and of images."""
    first, *_, last = sorted((trained / "checkpoints").iterdir())
    before, at_end, final = (open_to_measure(path) for path in (first, last, trained))
    assert hash_weights(at_end.model) == hash_weights(final.model) != hash_weights(before.model)
    tasks = [ArcEasy(task="arc-easy", data=str(write_arc(tmp_path / "arc", 6)))]
    one, other = (evaluate(opened, tasks) for opened in (at_end, final))
    assert one[0].predictions == other[0].predictions
    assert one[0].metrics == other[0].metrics
    asked = ([Image.new("RGB", (16, 8), shade) for shade in ("red", "blue")], ["?", "what?"], 4)
    assert at_end.reader("ocrbench").answer(*asked) == final.reader("ocrbench").answer(*asked)
    assert one[0].model["sha256"] == other[0].model["sha256"]
    assert one[0].model["recipe_sha256"] == other[0].model["recipe_sha256"]
    step = int(last.name.removeprefix("step-"))
    kept = "averaged" if (last / "ema.safetensors").exists() else "as trained"
    assert {key: one[0].model[key] for key in ("path", "step", "weights")} == {"path": str(last), "step": step, "weights": kept}
    assert recipe_of(last) == recipe_of(trained)
    assert run_directory(last) == trained.resolve()


def test_a_checkpoint_is_opened_without_the_weights_that_the_run_began_with(tmp_path: Path) -> None:
    from tests.model.pretrained import data_around

    plain = write_checkpoint("qwen3_moe", tmp_path / "plain")
    data = data_around({"pretrained": {"path": str(plain)}}, [{"name": "all", "modalities": ["text"], "experts": 8}])
    data["model"]["shared"] = "none"
    folder = _train(tmp_path, data)
    whole = (plain / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    (plain / "model.safetensors").write_bytes(whole[:header] + bytes(len(whole) - header))
    [*_, last] = sorted((folder / "checkpoints").iterdir())
    assert hash_weights(open_to_measure(last).model) == hash_weights(open_to_measure(folder).model)


def _train(folder: Path, data: dict[str, object]) -> Path:
    import yaml

    from smoe_cli.plan import compile_plan
    from smoe_cli.recipe import load
    from smoe_cli.train.run import train

    (folder / "recipe.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    loaded = load(folder / "recipe.yaml")
    return train(loaded, compile_plan(loaded.recipe), folder / "run", "never")


def test_checkpoints_that_cannot_be_measured(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "run")
    [*_, last] = sorted((copy / "checkpoints").iterdir())
    alone = shutil.copytree(last, tmp_path / "alone")
    with pytest.raises(UserError, match=r"alone: a checkpoint without its run: no .*recipe\.resolved\.yaml"):
        open_to_measure(alone)
    with pytest.raises(UserError, match=r"^/: a checkpoint without its run"):
        recipe_file(Path("/"))
    (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
        open_to_measure(last)
    (last / "state.json").write_text("{}", encoding="utf-8")
    write_manifest(last)
    with pytest.raises(UserError, match=r"state\.json: unreadable"):
        load_checkpoint(last)
    assert run(["eval", str(last), "--tasks", "rendered-ocr"]) == 2


def hub_cache(root: Path, name: str) -> Path:
    """A checkpoint in the layout of the hub's cache; returns the folder of the snapshot."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    base = root / f"models--{name.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit, encoding="utf-8")
    return write_checkpoint("qwen3", base / "snapshots" / commit)


def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From the hub's cache, as when it has been downloaded before; offline, one that was not is an error with a message."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    snapshot = hub_cache(tmp_path / "cache", "org/name")
    opened = open_to_measure(Path("org/name"))
    assert opened.identity == {
        "path": "org/name",
        "kind": "causal-lm",
        "recipe": None,
        "recipe_sha256": None,
        "revision": snapshot.name,
    }
    assert hash_weights(opened.model) == hash_weights(open_to_measure(snapshot).model)
    with pytest.raises(UserError, match="org/other: no such folder here, and the hub answered"):
        open_to_measure(Path("org/other"))
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match=r"runs/other: no such folder\n"):  # a folder that was meant, and not asked of the hub
        open_to_measure(Path("runs/other"))
    arc = write_arc(tmp_path / "arc", 4)
    assert run(["eval", "org/name", "--tasks", "arc-easy", "--data", str(arc), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["model"]["revision"] == snapshot.name


def test_types(tmp_path: Path) -> None:
    """Parameters are cast, buffers are not; float32 is the model as it lies; what has no kernel is refused at once."""
    folder = write_run(tmp_path / "run")
    [exact, half] = [open_to_measure(folder, dtype) for dtype in ("float32", "bfloat16")]
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    for (name, one), (other, two) in zip(exact.model.named_buffers(), half.model.named_buffers(), strict=True):
        assert name == other
        assert torch.equal(one, two)
        assert one.dtype == two.dtype
    assert hash_weights(exact.model) == hash_weights(open_model(folder / "model")[0])
    plain = write_checkpoint("qwen3", tmp_path / "plain")
    assert {p.dtype for p in open_to_measure(plain, "float16").model.parameters()} == {torch.float16}
    narrow = write_checkpoint("qwen3_moe", tmp_path / "narrow")  # experts of 12 values: 24 bytes a row in half precision
    with pytest.raises(UserError, match="cannot be computed in bfloat16 on cpu: strides should be") as caught:
        open_to_measure(narrow, "bfloat16")
    assert caught.value.help == "pass --dtype float32"
    assert open_to_measure(narrow).kind == "causal-lm"


def test_numbers_beyond_float16(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_checkpoint("qwen3", tmp_path / "plain")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= 1e6
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="float16 on cpu: the model's log-likelihoods are not finite"):
        open_to_measure(folder, "float16")

"""What can go wrong with a conversion: each ends with a message that names the place, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from smoe_cli.cli.main import run
from smoe_cli.convert import original, plain, symbiotic, understanding
from smoe_cli.convert.assembly import Plain
from smoe_cli.convert.options import Options
from smoe_cli.convert.original import to_original
from smoe_cli.convert.symbiotic import to_symbiotic
from smoe_cli.convert.understanding import to_understanding
from smoe_cli.errors import Failure, SmoeError, UserError
from smoe_cli.model import weights
from smoe_cli.model.folder import write_manifest
from smoe_cli.model.shards import ShardWriter
from tests.convert.make import convert, write_recipe
from tests.eval.folders import write_model
from tests.families.tiny import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint("qwen2_moe", tmp_path / "checkpoint")


def attempt(tmp_path: Path, checkpoint: Path, **changes: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", "qwen2_moe", checkpoint, **changes)
    to_symbiotic(recipe, tmp_path / "out", Options())


def convert_to(target: str, tmp_path: Path, folder: Path) -> None:
    """`folder` to `out`; for `symbiotic` what recipe.yaml says."""
    if target == "symbiotic":
        to_symbiotic(tmp_path / "recipe.yaml", tmp_path / "out", Options())
    else:
        {"original": to_original, "understanding": to_understanding}[target](folder, tmp_path / "out", Options())


def leaves_nothing(tmp_path: Path) -> None:
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint", "recipe.yaml", "symbiotic", "model"}


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(SmoeError, match=r"config\.json: no such file"):
        attempt(tmp_path, tmp_path / "checkpoint")
    leaves_nothing(tmp_path)


def test_unsupported_family(tmp_path: Path, checkpoint: Path) -> None:
    edit_config(checkpoint, model_type="gpt2")
    with pytest.raises(SmoeError, match="model family `gpt2` is not supported"):
        attempt(tmp_path, checkpoint)
    leaves_nothing(tmp_path)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(NORM), f"`{NORM}` is missing"),
        (lambda t: t.pop("model.layers.1.mlp.gate.weight"), "layer 1: lacks its router"),
        (lambda t: t.pop("model.layers.1.mlp.experts.3.up_proj.weight"), "no `up_proj` of expert 3"),
        (
            lambda t: t.update({"model.extra.weight": torch.zeros(2)}),
            r"checkpoint: `model\.extra\.weight` is no tensor of a `qwen2_moe`",
        ),
        (lambda t: t.update({NORM: torch.ones(31)}), rf"`{NORM}` has shape \(31,\) where it asks for \(32,\)"),
    ],
    ids=["missing", "no router", "no expert", "extra", "shape"],
)
def test_a_checkpoint_that_is_not_what_its_config_says(tmp_path: Path, checkpoint: Path, edit: Any, message: str) -> None:
    edit_weights(checkpoint, edit)
    with pytest.raises(SmoeError, match=message):
        attempt(tmp_path, checkpoint)
    leaves_nothing(tmp_path)


def test_values_that_are_not_finite(tmp_path: Path, checkpoint: Path) -> None:
    edit_weights(checkpoint, lambda t: t["model.layers.2.mlp.experts.4.down_proj.weight"].fill_(torch.inf))
    with pytest.raises(UserError, match=r"layers\.2\.mlp\.experts\.down_proj` holds values that are not finite"):
        attempt(tmp_path, checkpoint)
    leaves_nothing(tmp_path)


def test_a_recipe_that_does_not_fit(tmp_path: Path, checkpoint: Path) -> None:
    groups = [{"name": "all", "modalities": ["text", "vit", "vae"], "experts": 9}]
    with pytest.raises(SmoeError, match=r"recipe\.yaml:\d+:\d+: error: .*9 experts"):
        attempt(tmp_path, checkpoint, **{"model.groups": groups})
    leaves_nothing(tmp_path)


@pytest.mark.parametrize("what", ["a file", "a folder that is not empty"])
def test_a_place_that_is_taken(tmp_path: Path, checkpoint: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
        (out / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists and is not empty"):
        attempt(tmp_path, checkpoint)
    source = write_model(tmp_path / "model")
    for target in ("original", "understanding"):
        with pytest.raises(UserError, match="exists and is not empty"):
            convert_to(target, tmp_path, source)
    assert (out if what == "a file" else out / "mine").read_text(encoding="utf-8") == "mine"


def fails_after(count: int, error: BaseException) -> Callable[..., int]:
    """`ShardWriter.write`, which raises at the call with this number."""
    write, calls = ShardWriter.write, [0]

    def failing(self: ShardWriter, name: str, part: torch.Tensor) -> int:
        calls[0] += 1
        if calls[0] > count:
            raise error
        return write(self, name, part)

    return failing


ENDS = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ENDS, ids=["disk full", "Ctrl-C"])
@pytest.mark.parametrize("target", ["symbiotic", "original", "understanding"])
def test_what_is_cut_short_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, error: BaseException
) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", Options(verify="tensors"))
    monkeypatch.setattr(ShardWriter, "write", fails_after(20, error))
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else Failure) as caught:
        convert_to(target, tmp_path, folder)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{tmp_path / 'out'}: cannot be written: No space left on device"
    leaves_nothing(tmp_path)


def test_a_disk_that_is_too_small_is_found_out_at_once(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files get their full size before the first tensor is read."""
    from smoe_cli.model import shards

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.os, "posix_fallocate", full)
    monkeypatch.setattr(ShardWriter, "write", fails_after(0, AssertionError("was written to")))
    with pytest.raises(Failure, match="out: cannot be written: No space left on device"):
        attempt(tmp_path, checkpoint)
    leaves_nothing(tmp_path)


def damaged(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of the last tensor flips between writing and reading back."""
    checked = module.check_files

    def check(folder: Path, *arguments: Any) -> Any:
        path = sorted(folder.glob("*.safetensors"))[-1]
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        return checked(folder, *arguments)

    monkeypatch.setattr(module, "check_files", check)


@pytest.mark.parametrize("target", ["symbiotic", "original", "understanding"])
def test_what_is_read_back_must_be_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", Options(verify="tensors"))
    damaged(symbiotic if target == "symbiotic" else plain, monkeypatch)
    with pytest.raises(Failure, match=r"model\.safetensors: `.+` was written damaged"):
        convert_to(target, tmp_path, folder)
    leaves_nothing(tmp_path)


def misplaced(assemble: Callable[..., dict[str, Plain]]) -> Callable[..., dict[str, Plain]]:
    """Two experts of every layer change places, and their router rows do not."""

    def wrong(*arguments: Any) -> dict[str, Plain]:
        assembly = assemble(*arguments)
        for name, tensor in assembly.items():
            if ".experts." in name and tensor.rows is not None:
                assembly[name] = replace(tensor, rows=(tensor.rows[1], tensor.rows[0], *tensor.rows[2:]))
        return assembly

    return wrong


@pytest.mark.parametrize("target", ["original", "understanding"])
def test_logits_must_be_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """A tensor in a wrong place is written and read back soundly, so only the logits can tell."""
    _, folder = convert(tmp_path, "qwen2_moe", Options(verify="tensors"))
    module, name = {"original": (original, "original"), "understanding": (understanding, "only")}[target]
    monkeypatch.setattr(module, name, misplaced(getattr(module, name)))
    with pytest.raises(Failure, match="logits differ from the model's"):
        convert_to(target, tmp_path, folder)
    leaves_nothing(tmp_path)


def test_the_tokenizer_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(tmp_path / "model")
    copy = understanding.copy_processing

    def damage(folder: Path, work: Path) -> None:
        copy(folder, work)
        file = work / "tokenizer.json"
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
        file.write_text(json.dumps(tokenizer), encoding="utf-8")

    monkeypatch.setattr(understanding, "copy_processing", damage)
    with pytest.raises(Failure, match="tokenizer encodes text differently"):
        to_understanding(source, tmp_path / "out", Options())
    leaves_nothing(tmp_path)


def test_a_damaged_model_folder_is_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    data = bytearray((source / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (source / "model.safetensors").write_bytes(data)
    for target in ("original", "understanding"):
        with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
            convert_to(target, tmp_path, source)


def test_a_model_folder_that_lacks_an_expert(tmp_path: Path) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", Options(verify="tensors"))
    edit_weights(folder, lambda t: t.pop("backbone.model.layers.0.mlp.experts.generation.down_proj"))
    write_manifest(folder)
    with pytest.raises(
        UserError, match=r"symbiotic: `backbone\.model\.layers\.0\.mlp\.experts\.generation\.down_proj` is missing"
    ):
        to_original(folder, tmp_path / "out", Options())
    leaves_nothing(tmp_path)


class Unreadable:
    """In the place of an open file: says which errors its slices raise, and whether it was closed."""

    closed = 0

    def __init__(self, *_: Any, **__: Any):
        pass

    def __enter__(self) -> Unreadable:
        return self

    def __exit__(self, *_: object) -> None:
        Unreadable.closed += 1

    def get_slice(self, name: str) -> Unreadable:
        return self

    def __getitem__(self, index: Any) -> torch.Tensor:
        raise SafetensorError("cut short")


@pytest.mark.parametrize("target", ["symbiotic", "original", "understanding"])
def test_a_source_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    _, folder = convert(tmp_path, "qwen2_moe", Options(verify="tensors"))
    monkeypatch.setattr(weights, "safe_open", Unreadable)
    monkeypatch.setattr(Unreadable, "closed", 0)
    source = "checkpoint" if target == "symbiotic" else "symbiotic"
    with pytest.raises(UserError, match=rf"{source}/model\.safetensors: `.+` cannot be read \(cut short\)"):
        convert_to(target, tmp_path, folder)
    assert Unreadable.closed == 1
    leaves_nothing(tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")
def test_a_place_that_takes_no_folder(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    with pytest.raises(UserError, match="/proc/x: cannot be written: ") as caught:
        to_understanding(source, Path("/proc/x"), Options())
    assert caught.value.help == "choose another place"


@pytest.mark.parametrize("target", ["original", "understanding"])
def test_a_plain_checkpoint(tmp_path: Path, checkpoint: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(checkpoint), str(tmp_path / "out"), "--to", target]) == 2
    assert "it is a plain checkpoint already" in capsys.readouterr().err
    leaves_nothing(tmp_path)

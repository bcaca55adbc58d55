"""The run directory: locks, checkpoints that a resumed run leaves behind, what may change between sessions."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smoe_cli.errors import UserError
from smoe_cli.model.folder import MANIFEST, check_manifest
from smoe_cli.train import loop
from tests.helpers import tiny_data
from tests.train.runs import lines, run

EVALUATION = {"tasks": [{"task": "rendered-ocr", "source": "read", "questions": 3}]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("finished"), **{"training.checkpoints": {"every": 2, "keep": 9}})


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_resuming_from_an_earlier_checkpoint_sets_later_ones_aside(copied: Path, tmp_path: Path) -> None:
    """Nothing is lost, and what is written from then on is what the next session finds as the newest."""
    root = copied / "checkpoints"
    older = load_file(root / "step-00000008/model.safetensors")
    changes = {"training.checkpoints": {"every": 3, "keep": 2}}
    again = run(tmp_path, resume=str(root / "step-00000002"), **changes)
    assert again == copied
    names = sorted(p.name for p in root.iterdir())
    assert {"aside-step-00000004", "aside-step-00000006", "aside-step-00000008"} <= set(names)
    assert [n for n in names if n.startswith("step-")] == ["step-00000006", "step-00000008"]
    assert [line["step"] for line in lines(copied / "metrics.jsonl")] == [2, 4, 6, 8]
    newer = load_file(root / "step-00000008/model.safetensors")
    assert all(torch.equal(older[n], newer[n]) for n in older)


def test_unfinished_checkpoints_are_cleared(copied: Path, tmp_path: Path) -> None:
    """A process killed in the middle of writing leaves nothing under a checkpoint's name, and its remains go away."""
    root = copied / "checkpoints"
    code = (
        "import os, signal, sys; from pathlib import Path; from smoe_cli.model.io import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as work:\n"
        "    (work / 'model.safetensors').write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(root / "step-00000009")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (root / "step-00000009").exists()
    assert list(root.glob(".step-00000009.*"))
    run(tmp_path, **{"training.checkpoints": {"every": 2, "keep": 9}})
    assert not list(root.glob(".step-*"))


def test_files_have_the_modes_of_other_files(finished: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    for path in finished.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"version": 1, "files": {"a": {}}}',
        '{"version": 1, "files": {"a": 3}}',
        '{"version": 1, "files": {}}',
    ],
)
def test_a_malformed_manifest_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        check_manifest(tmp_path)


def test_a_folder_of_a_later_version_is_refused(copied: Path) -> None:
    file = copied / "model" / MANIFEST
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="written in version 2 of the format; this smoe reads 1"):
        check_manifest(copied / "model")


def test_weights_that_the_manifest_does_not_list_are_refused(copied: Path) -> None:
    folder = copied / "model"
    shutil.copy(folder / "model.safetensors", folder / "more.safetensors")
    with pytest.raises(UserError, match=r"does not list more\.safetensors"):
        check_manifest(folder)


def test_two_processes_do_not_train_in_one_directory(copied: Path, tmp_path: Path) -> None:
    with (copied / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training there"):
            run(tmp_path)
    run(tmp_path)


def test_a_wrong_path_of_a_later_phase_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    source = {"kind": "dataset", "task": "t2i", "path": str(tmp_path / "nowhere.parquet")}
    with pytest.raises(UserError, match=r"nowhere\.parquet"):
        run(tmp_path, **{"data.sources.draw": source})
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        run(tmp_path, evaluation={"tasks": [{"task": "mmlu", "data": str(tmp_path / "nowhere")}]})
    assert not (tmp_path / "run").exists()


def test_another_order_of_sources_is_another_run(copied: Path, tmp_path: Path) -> None:
    sources = tiny_data()["data"]["sources"]
    with pytest.raises(UserError, match=r"the order of data\.sources"):
        run(tmp_path, **{"data.sources": dict(reversed(sources.items()))})


def test_what_changes_only_memory_may_change_on_resume(copied: Path, tmp_path: Path) -> None:
    root = copied / "checkpoints"
    changes: dict[str, Any] = {"phases.1.accumulate": 2, "training.activation_checkpointing": True}
    run(tmp_path, resume=str(root / "step-00000004"), **changes)


def test_evaluation_and_samples_follow_the_recipe_on_resume(tmp_path: Path) -> None:
    folder = run(tmp_path, evaluation=EVALUATION, **{"training.sampling": {"prompts": ["1"], "steps": 2}})
    result = folder / "eval/joint-rendered-ocr.json"
    assert json.loads(result.read_text())["total"] == 3
    before = {p: p.stat().st_mtime_ns for p in (result, folder / "samples/step-00000008.png")}
    run(tmp_path, evaluation=EVALUATION, **{"training.sampling": {"prompts": ["1"], "steps": 2}})
    assert before == {p: p.stat().st_mtime_ns for p in before}, "nothing to do, nothing done"

    more = {"tasks": [{**EVALUATION["tasks"][0], "questions": 5}]}
    run(tmp_path, evaluation=more, **{"training.sampling": {"prompts": ["1", "2"], "steps": 2}})
    assert json.loads(result.read_text())["total"] == 5
    assert [line["prompts"] for line in lines(folder / "samples.jsonl")] == [["1", "2"]]


def test_a_result_of_another_format_does_not_end_a_run(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "eval/mmlu.json").write_text('{"task": "mmlu", "score": 0.5}')
    run(tmp_path)
    assert f"left out: {copied}/eval/mmlu.json: not a result of `smoe eval` in format" in capsys.readouterr().out


def test_a_signal_between_phases_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """During the evaluation after phase 1; the next session evaluates and goes on, and ends like a run that never stopped."""
    whole = run(tmp_path, "whole", evaluation=EVALUATION)
    import smoe_cli.train.measure as module

    plain = module.evaluate

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*args, **kwargs)

    monkeypatch.setattr(module, "evaluate", interrupted)
    with pytest.raises(loop.Stopped) as caught:
        run(tmp_path, evaluation=EVALUATION)
    assert (caught.value.signal, caught.value.step) == (signal.SIGTERM, 4)
    monkeypatch.setattr(module, "evaluate", plain)
    folder = run(tmp_path, evaluation=EVALUATION)
    assert (folder / "eval/understanding-rendered-ocr.json").exists()
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes()


def test_an_accumulation_in_the_environment_has_no_say(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate's launcher sets this variable; its `backward` would divide by it."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    again = run(tmp_path)
    assert (again / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_machine_without_git_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = run(tmp_path)
    assert json.loads((folder / "environment.json").read_text())["git commit"] is None

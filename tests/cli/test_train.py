"""`smoe train`: exit codes and messages of what can go wrong, through the command line."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from smoe_cli.cli.common import load_and_compile
from smoe_cli.cli.main import run as smoe
from smoe_cli.families import open_checkpoint, read_backbone
from smoe_cli.recipe.backbones import Backbone, Upcycle
from smoe_cli.train.run import exports
from tests.families.tiny import write_checkpoint
from tests.train.runs import run, write


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("trained"))


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
    assert "Traceback" not in text
    return text


def test_trains_says_what_was_reached_and_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"tasks": [{"task": "rendered-ocr", "source": "read", "questions": 5}]}
    recipe = write(tmp_path, evaluation=tasks, **{"training.sampling": {"prompts": ["1 2"], "steps": 2}})
    monkeypatch.chdir(tmp_path)
    assert smoe(["train", str(recipe), "--set", "seed=3"]) == 0
    out = capsys.readouterr().out
    assert "starting tiny in runs/tiny: 8 steps" in out
    assert re.search(r"rendered-ocr after understanding: \d/5", out)
    assert re.search(r"rendered-ocr after joint: \d/5", out)
    assert "samples: runs/tiny/samples/step-00000008.png" in out
    assert "report:  runs/tiny/report.html" in out
    assert "next:    smoe generate runs/tiny --prompt '1 2'" in out
    assert (tmp_path / "runs/tiny/recipe.yaml").read_text() == recipe.read_text()
    assert "seed: 3" in (tmp_path / "runs/tiny/recipe.resolved.yaml").read_text()
    assert smoe(["generate", "runs/tiny", "--prompt", "1 2", "--out", "drawn"]) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 1


def test_export_is_suggested_only_where_it_works(trained: Path) -> None:
    loaded, plan = load_and_compile(trained / "recipe.yaml")
    assert exports(loaded.recipe, plan)
    assert not exports(loaded.recipe, replace(plan, promoted=((0,),)))
    assert not exports(loaded.recipe, replace(plan, group_of={"vae": 0}))
    upcycled = loaded.recipe.model.model_copy(update={"backbone": Backbone(upcycle=Upcycle(**{"from": "dense", "experts": 2}))})
    assert not exports(loaded.recipe.model_copy(update={"model": upcycled}), plan)


@pytest.mark.parametrize(("family", "sure"), [("qwen2_moe", True), ("deepseek_v3", False), ("ernie4_5_vl_moe", False)])
def test_no_export_is_suggested_where_it_depends_on_the_split(trained: Path, tmp_path: Path, family: str, sure: bool) -> None:
    loaded, plan = load_and_compile(trained / "recipe.yaml")
    write_checkpoint(family, tmp_path)
    backbone = read_backbone(open_checkpoint(str(tmp_path)))
    assert exports(loaded.recipe, replace(plan, source=replace(plan.source, backbone=backbone))) is sure


def test_a_run_that_may_not_export_is_shown_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write(tmp_path)
    assert smoe(["train", str(recipe), "--run-dir", str(tmp_path / "run")]) == 0
    assert f"next:    smoe convert {tmp_path / 'run'} exported --to understanding" in capsys.readouterr().out
    assert smoe(["convert", str(tmp_path / "run"), str(tmp_path / "exported"), "--to", "understanding"]) == 0
    monkeypatch.setattr("smoe_cli.train.run.exports", lambda recipe, plan: False)
    assert smoe(["train", str(recipe), "--run-dir", str(tmp_path / "run")]) == 0
    assert f"next:    smoe report {tmp_path / 'run'} --open" in capsys.readouterr().out


def test_a_run_of_another_recipe_is_left_alone(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
    assert smoe(["train", str(write(tmp_path, seed=9)), "--run-dir", str(trained)]) == 2
    assert "holds a run of another recipe; seed differs" in (text := errors(capsys))
    assert "--resume never" in text
    assert before == {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    assert smoe(["train", str(write(tmp_path)), "--run-dir", str(tmp_path / "mine")]) == 2
    assert "is not a run directory" in errors(capsys)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_resuming_from_a_damaged_checkpoint_names_the_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / "optimizer.safetensors").write_bytes(b"junk")
    recipe = write(tmp_path)
    newest = folder / "checkpoints/step-00000008"
    assert smoe(["train", str(recipe), "--run-dir", str(folder), "--resume", str(newest)]) == 2
    assert "optimizer.safetensors: damaged" in errors(capsys)
    assert smoe(["train", str(recipe), "--run-dir", str(folder)]) == 2
    assert "every checkpoint is damaged" in errors(capsys)
    assert smoe(["train", str(recipe), "--run-dir", str(folder), "--resume", "yesterday"]) == 2
    assert "--resume yesterday: not a checkpoint" in errors(capsys)


def test_a_tracker_that_is_not_installed_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accelerate would go on without it."""
    assert smoe(["train", str(write(tmp_path, **{"training.trackers": ["trackio"]})), "--run-dir", str(tmp_path / "run")]) == 2
    assert "`trackio` is not installed" in (text := errors(capsys))
    assert "pip install 'smoe[trackio]'" in text


def test_divergence_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write(tmp_path, **{"phases.0.learning_rate": {"default": 1e30}, "phases.0.steps": 20})
    assert smoe(["train", str(recipe), "--run-dir", str(tmp_path / "run")]) == 1
    assert "5 steps in a row had a non-finite loss" in errors(capsys)


def test_a_broken_row_names_file_and_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "good"}\n{"txt": "bad"}\n')
    source = {"kind": "dataset", "task": "lm", "path": str(tmp_path / "text.jsonl")}
    recipe = write(tmp_path, **{"data.sources.prose": source})
    assert smoe(["train", str(recipe), "--run-dir", str(tmp_path / "run")]) == 2
    assert re.search(r'source "prose": row 2 of .*text\.jsonl: no column "text"', errors(capsys))


def test_skipped_rows_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "good"}\n{"txt": "bad"}\n')
    source = {"kind": "dataset", "task": "lm", "path": str(tmp_path / "text.jsonl"), "on_bad_row": "skip"}
    recipe = write(tmp_path, **{"data.sources.prose": source})
    assert smoe(["train", str(recipe), "--run-dir", str(tmp_path / "run")]) == 0
    assert re.search(r"skipped \d+ rows of prose: .*\(\d+\)", capsys.readouterr().out)

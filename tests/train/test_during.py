"""Evaluation inside training never changes the training."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file

from smoe_cli.eval import run as eval_run
from smoe_cli.eval.models import Asking
from smoe_cli.eval.opening.locate import open_to_measure
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.results import Result
from smoe_cli.eval.run import evaluate
from smoe_cli.recipe import load
from smoe_cli.recipe.measures import RenderedOcr
from smoe_cli.train import loop, measure
from smoe_cli.train import run as train_run
from tests.eval.tiny import write_mmlu
from tests.families.tiny import write_checkpoint
from tests.train.runs import lines, run, write

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
BASE: dict[str, Any] = {
    "training.log_every": 1,
    "training.ema": {"decay": 0.9},
    "training.checkpoints": {"every": 4, "keep": 9},
    "training.sampling": {"every": 2, "prompts": ["1", "22"], "steps": 2},
    "data.sources.prose": {"kind": "python-docs", "task": "lm", "split": "train"},
    "model.backbone.scratch.max_position_embeddings": 4096,
}
OCR = {"task": "rendered-ocr", "source": "read", "questions": 3}
OCR_FILES = ("step-00000003-rendered-ocr.json", "step-00000006-rendered-ocr.json")


def evaluation(folder: Path, *during: int) -> dict[str, Any]:
    """Tasks that answer, that score choices and that score texts, after these steps."""
    mmlu = folder / "mmlu"
    if not mmlu.exists():
        write_mmlu(mmlu, {"anatomy": 3, "virology": 2})
    bits = {"task": "bits-per-byte", "source": "prose", "limit": 2}
    tasks = [OCR, {"task": "mmlu", "data": str(mmlu), "shots": 1}, bits]
    return {"tasks": tasks, "during": list(during), "batch_size": 3}


def same_training(a: Path, b: Path) -> None:
    """Everything that training writes is equal byte by byte, as far as both have it."""
    for file in ("metrics.jsonl", "routing.jsonl", "samples.jsonl", "data.json", "model/model.safetensors"):
        assert (a / file).read_bytes() == (b / file).read_bytes(), file
    grids = sorted(p.name for p in (a / "samples").iterdir())
    assert grids == sorted(p.name for p in (b / "samples").iterdir())
    parts = [f"samples/{name}" for name in grids]
    for step in (4, 8):
        folder = f"checkpoints/step-{step:08d}"
        parts += [f"{folder}/{p}.safetensors" for p in ("model", "optimizer", "ema", "extra")] + [f"{folder}/state.json"]
    for part in parts:
        assert (a / part).read_bytes() == (b / part).read_bytes(), part


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that measures nothing."""
    return run(tmp_path_factory.mktemp("plain"), **BASE)


def test_the_same_bits_with_and_without(plain: Path, tmp_path: Path) -> None:
    folder = run(tmp_path, **BASE, evaluation=evaluation(tmp_path, 0, 1, 3, 6))
    same_training(plain, folder)
    names = {p.name for p in (folder / "eval").glob("*.json")}
    assert names == {
        f"{when}-{task}.json"
        for when in ("step-00000000", "step-00000001", "step-00000003", "step-00000006", "understanding", "joint")
        for task in ("rendered-ocr", "mmlu", "bits-per-byte")
    }
    result = json.loads((folder / "eval/step-00000006-mmlu.json").read_text())
    assert (result["step"], result["phase"], result["circumstances"]["batch_size"]) == (6, "joint", 3)


def noisy(asking: Asking, task: RenderedOcr) -> Result:
    """A task that uses up every random generator, seeds them, and leaves the model in another mode."""
    torch.manual_seed(99)
    torch.rand(7)
    numpy.random.seed(5)
    numpy.random.rand(3)
    random.seed(1)
    random.random()
    next(asking.opened.model.modules()).train()
    return eval_run.run_rendered(asking, task)


def test_a_task_that_draws_random_numbers_changes_nothing(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(eval_run.RUNNERS, RenderedOcr, noisy)
    same_training(plain, run(tmp_path, **BASE, evaluation={"tasks": [OCR], "during": [1, 2, 3, 5, 6, 7]}))


def test_the_numbers_are_those_of_smoe_eval_on_the_checkpoint(tmp_path: Path) -> None:
    """Scores, answers, hashes and protocol; what a checkpoint is called may differ."""
    folder = run(tmp_path, **BASE, evaluation=evaluation(tmp_path, 6))
    opened = open_to_measure(folder / "checkpoints/step-00000006")
    tasks = load(folder / "recipe.resolved.yaml").recipe.evaluation.tasks
    apart = evaluate(opened, tasks, tmp_path / "apart", batch_size=3)
    for result in apart:
        within = json.loads((folder / f"eval/step-00000006-{result.task}.json").read_text())
        alone = json.loads((tmp_path / f"apart/{result.task}.json").read_text())
        assert alone["model"].pop("path") != within["model"].pop("path")
        assert within["model"].items() <= alone["model"].items()
        for key in ("metrics", "groups", "subgroups", "details", "protocol", "circumstances", "versions", "hashes"):
            assert within[key] == alone[key], key
        predictions = (folder / "eval" / within["predictions"]).read_bytes()
        assert predictions == (tmp_path / "apart" / alone["predictions"]).read_bytes()
    last = json.loads((folder / "eval/joint-mmlu.json").read_text())["model"]
    final = open_to_measure(folder)
    assert last["sha256"] == hash_weights(final.model)
    assert last["recipe_sha256"] == final.identity["recipe_sha256"]


def test_the_model_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes, what is trained, where each weight lies, and buffers, also in a phase that freezes some."""
    plain_measure, seen = loop.measure_step, []

    def watched(trainer: loop.Trainer, phase: str, display: Any) -> None:
        before = _looks(trainer.model)
        plain_measure(trainer, phase, display)
        assert _looks(trainer.model) == before
        seen.append(trainer.state.step)

    monkeypatch.setattr(loop, "measure_step", watched)
    run(tmp_path, **BASE, evaluation=evaluation(tmp_path, 2, 6))
    assert seen == [2, 6]


def _looks(model: torch.nn.Module) -> list[Any]:
    modes = [(name, module.training) for name, module in model.named_modules()]
    buffers = [(name, buffer.data_ptr(), buffer.tolist()) for name, buffer in model.named_buffers()]
    return [modes, [(n, p.requires_grad, p.grad is None, p.data_ptr()) for n, p in model.named_parameters()], buffers]


def test_the_clock_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = 0.0

    def slow(*_: Any) -> None:
        nonlocal later
        later += 1000

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "measure_step", slow)
    monkeypatch.setattr(train_run, "measure_phase", slow)
    folder = run(tmp_path, **BASE, evaluation={"tasks": [OCR], "during": [1, 3, 6]})
    assert later == 5000
    assert all(line["seconds"] < 500 for line in lines(folder / "timings.jsonl"))


def test_killed_while_evaluating(plain: Path, tmp_path: Path) -> None:
    """kill -9 once the first result of step 3 is there: the run goes on from step 3 and measures the other two."""
    asked = evaluation(tmp_path, 3, 6)
    recipe, folder = write(tmp_path, **BASE, evaluation=asked), tmp_path / "run"
    first = folder / "eval/step-00000003-rendered-ocr.json"
    command = [sys.executable, "-c", KILLED, str(first), "train", str(recipe), "--run-dir", str(folder)]
    killed = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000003"]
    assert [p.name for p in (folder / "eval").glob("*.json")] == [first.name]
    before = first.stat().st_mtime_ns
    same_training(plain, run(tmp_path, **BASE, evaluation=asked))
    assert first.stat().st_mtime_ns == before
    assert len(list((folder / "eval").glob("*.json"))) == 4 * 3


KILLED = """
import os, signal, sys
from pathlib import Path
from smoe_cli.cli.main import run
from smoe_cli.eval import run as module
write = module.write
def last(result, path):
    write(result, path)
    if path == Path(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
module.write = last
run(sys.argv[2:])
"""
"""`smoe` that ends itself by kill -9 once a given result is written."""


def test_a_signal_ends_an_evaluation_at_once(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the training is lost, and the next session measures what is missing."""
    measured = measure.evaluate

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")

    asked = evaluation(tmp_path, 6)
    monkeypatch.setattr(measure, "evaluate", interrupted)
    with pytest.raises(loop.Stopped) as caught:
        run(tmp_path, **BASE, evaluation={**asked, "tasks": asked["tasks"], "during": [3]})
    assert (caught.value.signal, caught.value.step) == (signal.SIGTERM, 3)
    assert (tmp_path / "run/checkpoints/step-00000003").is_dir()
    monkeypatch.setattr(measure, "evaluate", measured)
    folder = run(tmp_path, **BASE, evaluation={**asked, "during": [3]})
    same_training(plain, folder)
    assert (folder / "eval/step-00000003-mmlu.json").is_file()


def test_what_stands_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result stands if the same was asked of the same weights, also where the run comes by a second time."""
    asked = evaluation(tmp_path, 3, 6)
    folder = run(tmp_path, **BASE, evaluation=asked)
    kept, gone, other = (folder / f"eval/step-00000006-{task}.json" for task in ("rendered-ocr", "mmlu", "bits-per-byte"))
    gone.unlink()
    other.write_text(other.read_text().replace(json.loads(other.read_text())["model"]["sha256"], "of another course"))
    before = [path.stat().st_mtime_ns for path in (kept, other)]
    run(tmp_path, resume=str(folder / "checkpoints/step-00000004"), **BASE, evaluation=asked)
    assert kept.stat().st_mtime_ns == before[0]
    assert other.stat().st_mtime_ns > before[1]
    assert "of another course" not in other.read_text()
    assert gone.is_file()

    fewer = {**asked, "tasks": [{**OCR, "questions": 2}], "during": [2, 3, 6]}
    capsys.readouterr()
    run(tmp_path, resume=str(folder / "checkpoints/step-00000004"), **BASE, evaluation=fewer)
    assert json.loads(kept.read_text())["total"] == 2
    said = capsys.readouterr().out
    assert "not measured: the run has passed step 2;" in said
    assert "not measured: the run has passed step 3;" in said, "there, but with another number of questions"


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """The second waits; the results are there once; the bits are those of two processes that measure nothing."""
    folders = []
    for name, asked in (("without", {}), ("with", evaluation(tmp_path, 0, 3, 6))):
        (tmp_path / name).mkdir()
        recipe = write(tmp_path / name, **BASE, **({"evaluation": asked} if asked else {}))
        folders.append(tmp_path / name / "run")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "smoe_cli"]
        command = [*launcher, "train", str(recipe), "--run-dir", str(folders[-1])]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("evaluating after step 3 …") == 1
    assert len(list((folders[1] / "eval").glob("*.json"))) == 5 * 3
    same_training(*folders)


def test_dropout_goes_on_as_if_nothing_had_been_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint whose attention drops out draws from torch's global generator at every step of training."""
    monkeypatch.setitem(eval_run.RUNNERS, RenderedOcr, noisy)
    write_checkpoint("qwen2_moe", tmp_path / "qwen2_moe", attention_dropout=0.3)
    changes: dict[str, Any] = {
        **{key: value for key, value in BASE.items() if "scratch" not in key},
        "model.backbone": {"pretrained": {"path": str(tmp_path / "qwen2_moe")}},
        "model.groups": [
            {"name": "understanding", "modalities": ["text", "vit"], "experts": 4, "select": "first"},
            {"name": "generation", "modalities": ["vae"], "experts": 4},
        ],
        "model.shared": None,
    }
    without = run(tmp_path, "without", **changes)
    same_training(without, run(tmp_path, "with", **changes, evaluation={"tasks": [OCR], "during": [1, 2, 5]}))
    drawn = load_file(without / "checkpoints/step-00000008/extra.safetensors")["random.cpu"]
    assert not torch.equal(drawn, load_file(without / "checkpoints/step-00000004/extra.safetensors")["random.cpu"])


def test_drawing_and_judging_changes_nothing(plain: Path, tmp_path: Path) -> None:
    tasks = [{"task": "image-distance", "source": "draw", "images": 4}, {"task": "drawn-text", "source": "draw", "strings": 2}]
    folder = run(tmp_path, **BASE, evaluation={"tasks": tasks, "during": [3, 6]})
    same_training(plain, folder)
    assert len(list((folder / "eval").glob("step-*.json"))) == 4

"""Promises 4, 5, 6, 7 and 10 of a whole run, on the CPU, with the tiny recipe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smoe_cli.errors import UserError
from smoe_cli.model.io import load_model, save_model
from tests.train.runs import lines, run, write

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def same_run(a: Path, b: Path) -> None:
    for file in ("metrics.jsonl", "routing.jsonl", "model/model.safetensors", "data.json"):
        assert (a / file).read_bytes() == (b / file).read_bytes(), file


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uninterrupted run."""
    return run(
        tmp_path_factory.mktemp("reference"),
        **{"training.ema": {"decay": 0.9}, "training.checkpoints": {"every": 2, "keep": 9}},
    )


def test_same_recipe_same_seed_same_files(reference: Path, tmp_path: Path) -> None:
    again = run(tmp_path, **{"training.ema": {"decay": 0.9}, "training.checkpoints": {"every": 2, "keep": 9}})
    same_run(reference, again)
    assert [line["step"] for line in lines(again / "metrics.jsonl")] == [2, 4, 6, 8]


def test_another_seed_gives_another_run(reference: Path, tmp_path: Path) -> None:
    other = run(tmp_path, **{"seed": 1, "training.ema": {"decay": 0.9}})
    assert (other / "metrics.jsonl").read_bytes() != (reference / "metrics.jsonl").read_bytes()


def test_frozen_roles_keep_their_bits(reference: Path) -> None:
    """Weight decay is 0.1 and momentum exists; a frozen parameter still does not move."""
    plan = json.loads((reference / "plan.json").read_text())
    before = load_file(reference / "checkpoints/step-00000002/model.safetensors")
    after = load_file(reference / "checkpoints/step-00000004/model.safetensors")
    roles = {t["name"]: t["role"] for t in plan["tensors"]}
    frozen = set(plan["phases"][0]["frozen"])
    assert frozen == {"experts.generation", "router.generation", "latents"}
    for name, tensor in before.items():
        role = "vision" if name.startswith("vision.") else roles[name]
        if role in frozen:
            assert torch.equal(tensor, after[name]), name
    moved = [n for n in before if not torch.equal(before[n], after[n])]
    assert {("vision" if n.startswith("vision.") else roles[n]) for n in moved} == {
        "experts.understanding", "router.understanding", "shared", "attention", "norms", "embeddings", "vision", "projector",
    }  # fmt: skip
    moments = load_file(reference / "checkpoints/step-00000004/optimizer.safetensors")
    assert not any("generation" in n or n.startswith("latents") for n in moments), "a frozen group needs no optimizer state"


def test_a_rate_of_zero_is_a_rate(tmp_path: Path) -> None:
    """`0.0` is not `unset`: the role stays where it is, and is still listed with its rate."""
    rates = {"default": 1e-3, "attention": 0.0}
    folder = run(tmp_path, **{"phases.1.learning_rate": rates, "training.checkpoints": {"every": 4, "keep": 9}})
    start = load_file(folder / "checkpoints/step-00000004/model.safetensors")
    end = load_file(folder / "checkpoints/step-00000008/model.safetensors")
    assert all(torch.equal(start[n], end[n]) for n in start if "self_attn" in n)
    assert lines(folder / "metrics.jsonl")[-1]["lr/attention"] == 0.0


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_does_not_change_the_run(reference: Path, tmp_path: Path, accumulate: int) -> None:
    changes = {"phases.0.accumulate": accumulate, "phases.1.accumulate": accumulate, "training.ema": {"decay": 0.9}}
    close_runs(reference, run(tmp_path, **changes), 2e-5)


@pytest.mark.parametrize(
    "changes", [{"training.activation_checkpointing": True}, {"data.workers": 2}], ids=["checkpointing", "workers"]
)
def test_what_only_changes_memory_or_speed_does_not_change_the_run(
    reference: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    close_runs(reference, run(tmp_path, **changes, **{"training.ema": {"decay": 0.9}}), 2e-5)


def close_runs(a: Path, b: Path, tolerance: float) -> None:
    for x, y in zip(lines(a / "metrics.jsonl"), lines(b / "metrics.jsonl"), strict=True):
        assert x.keys() == y.keys()
        for key in x:
            if key != "phase":
                assert y[key] == pytest.approx(x[key], rel=tolerance, abs=tolerance), (x["step"], key)


def test_two_processes_equal_one(reference: Path, tmp_path: Path) -> None:
    """With accumulation, and an evaluation by the first while the other waits, on top. Routing is counted exactly once, so its
    counts are equal, not close."""
    changes = {"training.ema": {"decay": 0.9}, "phases.0.accumulate": 2, "phases.1.accumulate": 2}
    measured = {"tasks": [{"task": "rendered-ocr", "source": "read", "questions": 3}], "during": [0, 3]}
    recipe = write(tmp_path, **changes, evaluation=measured)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "smoe_cli"]
    command = [*launcher, "train", str(recipe), "--run-dir", str(tmp_path / "two")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "two/environment.json").read_text())["processes"] == 2
    assert done.stdout.count("evaluating after step 3 …") == 1
    assert len(list((tmp_path / "two/eval").glob("*.json"))) == 4
    close_runs(reference, tmp_path / "two", 1e-4)
    assert (tmp_path / "two/routing.jsonl").read_bytes() == (reference / "routing.jsonl").read_bytes()


def test_bfloat16_stays_close_to_float32(reference: Path, tmp_path: Path) -> None:
    """In a process of its own: Accelerate keeps its precision for the life of a process."""
    recipe = write(tmp_path, **{"training.ema": {"decay": 0.9}, "training.precision": "bf16"})
    command = [sys.executable, "-m", "smoe_cli", "train", str(recipe), "--run-dir", str(tmp_path / "bf16")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for x, y in zip(lines(reference / "metrics.jsonl"), lines(tmp_path / "bf16/metrics.jsonl"), strict=True):
        assert y["loss/total"] == pytest.approx(x["loss/total"], rel=2e-2)
        assert y["loss/total"] != x["loss/total"]
    assert all(t.dtype == torch.float32 for t in load_file(tmp_path / "bf16/model/model.safetensors").values())


def kill_at(step: int, recipe: Path, folder: Path, number: int) -> int:
    """Start a run in a process of its own and send it a signal once it has logged `step`."""
    command = [sys.executable, "-m", "smoe_cli", "train", str(recipe), "--run-dir", str(folder)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    metrics = folder / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.read_text().count("\n") >= step:
            process.send_signal(number)
            break
        time.sleep(0.005)
    process.communicate(timeout=120)
    return process.returncode


@pytest.mark.parametrize("step", [1, 3, 5, 9])
def test_kill_and_resume_gives_the_same_bits(step: int, tmp_path: Path) -> None:
    """kill -9 at several steps, then the same command again, against a run that was never stopped."""
    changes = {"training.log_every": 1, "training.ema": {"decay": 0.9}, "phases.0.steps": 5, "phases.1.steps": 7}
    whole = run(tmp_path, "whole", **changes)
    recipe = write(tmp_path, **changes)
    assert kill_at(step, recipe, tmp_path / "killed", signal.SIGKILL) == -signal.SIGKILL
    assert not (tmp_path / "killed/model").exists()
    same_run(whole, run(tmp_path, "killed", **changes))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_saves_and_resumes(number: int, tmp_path: Path) -> None:
    changes = {"training.log_every": 1, "training.checkpoints": {"every": 1000}, "phases.0.steps": 30}
    recipe = write(tmp_path, **changes)
    assert kill_at(3, recipe, tmp_path / "stopped", number) == 128 + number
    (saved,) = (tmp_path / "stopped/checkpoints").iterdir()
    state = json.loads((saved / "state.json").read_text())
    assert 3 <= state["step"] < 30
    same_run(run(tmp_path, "whole", **changes), run(tmp_path, "stopped", **changes))


def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    shutil.rmtree(folder / "model")
    for step in (8, 6):
        damaged = folder / f"checkpoints/step-{step:08d}/model.safetensors"
        data = bytearray(damaged.read_bytes())
        data[-3] ^= 1
        damaged.write_bytes(data)
    again = run(tmp_path, **{"training.ema": {"decay": 0.9}, "training.checkpoints": {"every": 2, "keep": 9}})
    out = capsys.readouterr().out
    assert "step-00000008/model.safetensors: damaged" in out
    assert "step-00000006/model.safetensors: damaged" in out
    assert "resuming from" in out
    assert "4 of 8 steps remain" in out
    same_run(reference, again)


def test_resume_decides_and_says_so(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    changes = {"training.ema": {"decay": 0.9}, "training.checkpoints": {"every": 2, "keep": 9}}
    before = (folder / "metrics.jsonl").read_bytes()
    run(tmp_path, **changes)
    assert "0 of 8 steps remain" in capsys.readouterr().out
    assert (folder / "metrics.jsonl").read_bytes() == before

    beside = run(tmp_path, resume="never", **changes)
    assert beside == tmp_path / "run-2"
    same_run(folder, beside)

    part = run(tmp_path, "part", resume=str(folder / "checkpoints/step-00000004"), **changes)
    assert "4 of 8 steps remain" in capsys.readouterr().out
    assert (part / "model/model.safetensors").read_bytes() == (folder / "model/model.safetensors").read_bytes()

    with pytest.raises(UserError, match="not a checkpoint"):
        run(tmp_path, "other", resume=str(tmp_path), **changes)
    with pytest.raises(UserError, match=r"another recipe; phases\.0\.steps, training\.ema differ"):
        run(tmp_path, **{"phases.0.steps": 5})


def test_save_load_save_gives_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    model, tokenizer, loaded, _ = load_model(reference / "model")
    save_model(model, tokenizer, tmp_path / "again", loaded.resolved_yaml())
    names = sorted(p.name for p in (reference / "model").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "again").iterdir())
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (reference / "model" / name).read_bytes(), name


def test_a_model_folder_accounts_for_every_tensor(reference: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from smoe_cli.model.io import write_manifest

    tensors = load_file(reference / "model/model.safetensors")
    name = "backbone.model.layers.0.mlp.experts.generation.down_proj"
    cases = {
        "missing": {k: v for k, v in tensors.items() if k != name},
        "is not a tensor of this model": {**tensors, "extra.weight": torch.zeros(2)},
        "has shape": {**tensors, name: tensors[name][:1].clone()},
        "has type F64": {**tensors, name: tensors[name].double()},
        "not finite": {**tensors, name: torch.full_like(tensors[name], float("nan"))},
    }
    for expected, changed in cases.items():
        folder = tmp_path / expected.replace(" ", "-")
        shutil.copytree(reference / "model", folder)
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(UserError, match="damaged"):
            load_model(folder)
        write_manifest(folder)
        with pytest.raises(UserError, match=expected):
            load_model(folder)


def test_every_line_of_metrics_says_what_a_reader_needs(reference: Path) -> None:
    first, last = lines(reference / "metrics.jsonl")[0], lines(reference / "metrics.jsonl")[-1]
    assert {
        "loss/total",
        "loss/text",
        "loss/balance",
        "loss/source/read",
        "grad_norm",
        "lr/shared",
        "tokens/vit",
    } <= first.keys()
    assert "loss/flow" not in first
    assert {
        "loss/flow",
        "loss/source/draw",
        "shield/shared/vae",
        "grad_norm/experts.generation",
        "routing/capacity/vae",
    } <= last.keys()
    assert [line.get("shield/shared/vae") for line in lines(reference / "metrics.jsonl")] == [None, None, 0.0, 0.1]
    for line in lines(reference / "routing.jsonl"):
        counts = torch.tensor(line["counts"]["text"])
        assert counts.shape == (2, 6)
        assert not counts[:, 4:].any(), "text never reaches an expert of the generation group"

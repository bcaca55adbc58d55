"""Non-finite steps, averages, trackers, sample grids, optimizer groups."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from smoe_cli.errors import Failure
from smoe_cli.model.build import build_model
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.models import AdamW
from smoe_cli.train import loop
from smoe_cli.train.ema import Average
from smoe_cli.train.optimizer import build_optimizer, freeze, role_of_parameters
from tests.helpers import tiny
from tests.train.runs import lines, run, write


def test_divergence_is_counted_and_stops_with_a_remedy(tmp_path: Path) -> None:
    """A learning rate that really makes the weights explode."""
    with pytest.raises(Failure, match="3 steps in a row had a non-finite loss or gradient") as caught:
        run(tmp_path, **{"phases.0.learning_rate": {"default": 1e30}, "phases.0.steps": 30, "training.max_nonfinite": 3})
    assert "lower the learning rate" in (caught.value.help or "")


def test_a_single_non_finite_step_is_skipped_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN in step 3 only: weights, momentum and averages stay as after step 2, and the run goes on."""
    plain, calls = loop.micro_loss, 0

    def poisoned(*args: object) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(*args) * (float("nan") if calls == 3 else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "micro_loss", poisoned)
    changes = {"training.log_every": 1, "training.checkpoints": {"every": 1, "keep": 9}, "training.ema": {"decay": 0.9}}
    folder = run(tmp_path, **changes)
    for file in ("model", "optimizer", "ema"):
        before, after = (load_file(folder / f"checkpoints/step-0000000{n}/{file}.safetensors") for n in (2, 3))
        assert all(torch.equal(before[name], after[name]) for name in before), file
    metrics = lines(folder / "metrics.jsonl")
    assert [line["skipped_steps"] for line in metrics] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert "loss/total" not in metrics[2]
    assert all(torch.isfinite(t).all() for t in load_file(folder / "model/model.safetensors").values())


def test_average_against_a_loop() -> None:
    model = nn.Linear(3, 2)
    average = Average(model, 0.9, frozenset({"weight", "bias"}))
    expected = model.weight.detach().clone().double()
    for n in range(20):
        with torch.no_grad():
            model.weight += 0.1
        average.update(model)
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * model.weight.detach().double()
    torch.testing.assert_close(average.tensors["weight"].double(), expected, rtol=1e-5, atol=1e-6)
    own = model.weight.detach().clone()
    with average.applied(model):
        assert torch.equal(model.weight, average.tensors["weight"])
    assert torch.equal(model.weight, own)


def test_the_average_of_a_role_goes_on_converging_while_it_is_frozen() -> None:
    model = nn.Linear(3, 2)
    average = Average(model, 0.9, frozenset({"weight"}))
    with torch.no_grad():
        model.weight += 1.0
        model.bias += 1.0
    model.requires_grad_(False)
    for _ in range(300):
        average.update(model)
    torch.testing.assert_close(average.tensors["weight"], model.weight.detach())
    assert not torch.equal(average.tensors["bias"], model.bias), "trained by no phase, so it never moves and is not averaged"


def test_the_final_model_holds_the_averaged_weights(tmp_path: Path) -> None:
    folder = run(tmp_path, **{"training.ema": {"decay": 0.5}})
    final, ema = (load_file(folder / f) for f in ("model/model.safetensors", "checkpoints/step-00000008/ema.safetensors"))
    last = load_file(folder / "checkpoints/step-00000008/model.safetensors")
    assert all(torch.equal(final[n], ema[n]) for n in ema)
    assert any(not torch.equal(final[n], last[n]) for n in last)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run(tmp_path, **{"training.trackers": ["tensorboard"]})
    (events,) = (p.parent for p in folder.rglob("events.out.tfevents*") if "hparams" not in str(p) and p.parent.name == "tiny")
    scalars = EventAccumulator(str(events)).Reload()
    logged = [line["loss/total"] for line in lines(folder / "metrics.jsonl")]
    assert [round(e.value, 3) for e in scalars.Scalars("loss/total")] == [round(v, 3) for v in logged]


def test_grids_are_drawn_where_the_recipe_says_and_change_nothing(tmp_path: Path) -> None:
    plain = run(tmp_path, "plain")
    sampling = {"every": 2, "prompts": ["1", "22", "3"], "steps": 3}
    folder = run(tmp_path, "drawn", **{"training.sampling": sampling})
    assert [line["step"] for line in lines(folder / "samples.jsonl")] == [6, 8]
    with Image.open(folder / "samples/step-00000008.png") as image:
        assert image.size[0] > 3 * 16
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (plain / file).read_bytes() == (folder / file).read_bytes()


def test_every_parameter_is_owned_once_and_only_if_some_phase_trains_it() -> None:
    recipe = tiny(**{"phases.0.freeze": ["vision"], "phases.1.freeze": ["vision"]})
    plan = compile_plan(recipe)
    model = build_model(recipe, plan)
    optimizer = build_optimizer(model, plan, AdamW())
    roles = role_of_parameters(model, plan)
    owned = {id(p): group["role"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert owned.get(id(parameter)) == (None if roles[name] == "vision" else roles[name]), name
    assert all(p.ndim >= 2 or group["weight_decay"] == 0 for group in optimizer.param_groups for p in group["params"])
    freeze(model, roles, frozenset({"shared"}))
    assert {roles[n] for n, p in model.named_parameters() if p.requires_grad} == {"shared"}


def test_a_terminal_sees_a_live_display(tmp_path: Path) -> None:
    recipe = write(tmp_path, **{"phases.0.steps": 30})
    reader, terminal = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": "110", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "smoe_cli", "train", str(recipe), "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen(command, env=environment, stdout=terminal, stderr=terminal, stdin=terminal)
    os.close(terminal)
    seen = b""
    while True:
        try:
            chunk = os.read(reader, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    assert process.wait(120) == 0
    text = seen.decode(errors="replace")
    assert "ETA" in text
    assert "tokens/s" in text
    assert "\x1b[" in text

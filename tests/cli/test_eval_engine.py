"""`smoe eval --engine lm-eval`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_cli.cli.main import run
from tests.eval.folders import write_run
from tests.eval.test_every_task import check_complete
from tests.eval.tiny import write_mmlu


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


def evaluate(*arguments: object) -> int:
    return run(["eval", *map(str, arguments)])


def test_a_run_by_both_engines(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmlu = write_mmlu(tmp_path / "mmlu", {"anatomy": 3})
    found = []
    for engine in ("native", "lm-eval"):
        predictions = tmp_path / f"{engine}.jsonl"
        asked = (run_folder, "--engine", engine, "--tasks", "mmlu", "--data", mmlu, "--shots", 2, "--batch-size", 2)
        assert evaluate(*asked, "--json", "-", "--predictions", predictions) == 0
        (result,) = json.loads(capsys.readouterr().out)
        lines = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
        check_complete(result, engine)
        found.append((result, lines))
    (native, ours), (harness, theirs) = found
    assert (native["correct"], native["total"]) == (harness["correct"], harness["total"])
    assert native["model"] == harness["model"]
    assert native["circumstances"]["max_length"] == harness["circumstances"]["max_length"]
    assert [line["id"] for line in ours] == [line["id"] for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-4)
    kept = json.loads((run_folder / "eval" / "mmlu-2.json").read_text(encoding="utf-8"))
    assert kept["protocol"] == harness["protocol"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--engine lm-eval: which tasks?"),
        (("--tasks", "mmlu", "--data", "nowhere"), "nowhere: no such file or folder"),
        (("--tasks", "mmlu", "--set", "mmlu.shots=1"), "--set has no effect with --engine lm-eval"),
    ],
)
def test_mistakes(run_folder: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run_folder, "--engine", "lm-eval", *arguments) == 2
    assert f"error: {message}" in capsys.readouterr().err

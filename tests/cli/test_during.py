"""Training a recipe, or a run directory, to measure on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.cli.during import recipe_file, train_during
from smoe_cli.errors import UserError
from smoe_cli.recipe import RecipeError
from smoe_cli.recipe.measures import BitsPerByte, RenderedOcr
from smoe_cli.train import loop
from tests.train.runs import run, write

OCR = RenderedOcr(task="rendered-ocr", source="read", questions=2)


def test_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text('{"text": "a text"}\n')
    bits = BitsPerByte(task="bits-per-byte", data="texts.jsonl")
    folder = train_during(write(tmp_path), "0,3", [OCR, bits])
    assert folder == Path("runs/tiny")
    names = {path.name for path in (folder / "eval").glob("step-*.json")}
    assert names == {f"step-0000000{n}-{task}.json" for n in (0, 3) for task in ("rendered-ocr", "bits-per-byte")}
    assert train_during(folder, "0,3", None) == folder, "nothing to do, nothing done"
    with pytest.raises(UserError, match=r"runs/tiny: the run is past step 1,2") as caught:
        train_during(folder, "1,2", None)
    assert "smoe eval runs/tiny/checkpoints/step-…" in (caught.value.help or "")
    kept = {path: path.read_bytes() for path in (folder / "eval").glob("*.json")}
    with pytest.raises(UserError, match=r"runs/tiny: the run is past step 1,2"):
        train_during(tmp_path / "recipe.yaml", "1,2", [OCR.model_copy(update={"questions": 1})])
    assert {path: path.read_bytes() for path in (folder / "eval").glob("*.json")} == kept


def test_a_run_goes_on_and_keeps_its_recipe_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the evaluation after step 3; then the command that the message names, and with other steps."""
    recipe = write(tmp_path)
    recipe.write_text("# why this run\n" + recipe.read_text())
    measured = loop.measure_step

    def stopped(trainer: loop.Trainer, *_: Any) -> None:
        raise loop.Stopped(15, trainer.state.step, trainer.folder)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "measure_step", stopped)
    with pytest.raises(SystemExit) as ended:
        train_during(recipe, "3", [OCR])
    assert ended.value.code == 128 + 15
    assert "Go on with: smoe eval runs/tiny --during 3\n" in capsys.readouterr().err
    monkeypatch.setattr(loop, "measure_step", measured)
    folder = train_during(Path("runs/tiny"), "3, 6", None)
    assert json.loads((folder / "eval/step-00000006-rendered-ocr.json").read_text())["total"] == 2
    assert (folder / "eval/step-00000003-rendered-ocr.json").is_file()
    assert (folder / "recipe.yaml").read_text() == recipe.read_text()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("4", "phase `understanding` ends after step 4"),
        ("9", "the run ends after step 8"),
        ("3,x", "expected a whole number of 0 or more"),
        ("", "--during: no steps"),
    ],
)
def test_steps_that_the_run_does_not_have(tmp_path: Path, steps: str, expected: str) -> None:
    with pytest.raises((RecipeError, UserError), match=expected):
        train_during(write(tmp_path), steps, [OCR])


def test_what_is_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        recipe_file(tmp_path)
    folder = run(tmp_path)
    assert recipe_file(folder) == folder / "recipe.resolved.yaml"
    with pytest.raises(RecipeError, match="there are no `tasks` to measure"):
        train_during(folder, "3", None)

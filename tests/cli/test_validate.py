"""`smoe validate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.cli.common import load_and_compile
from smoe_cli.cli.main import run
from smoe_cli.recipe import RecipeError
from tests.families.tiny import write_checkpoint
from tests.recipe.helpers import COMPLETE, edited


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(COMPLETE, encoding="utf-8")
    Path("bad.yaml").write_text(edited(COMPLETE, ("steps: 300", "stepz: 300")), encoding="utf-8")


def test_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "good.yaml"]) == 0
    assert capsys.readouterr() == ("ok  good.yaml  (complete, 2 phases, 1,300 steps)\n", "")


def test_override(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "good.yaml", "--set", "phases.0.steps=1", "--set", "name=other"]) == 0
    assert capsys.readouterr().out == "ok  good.yaml  (other, 2 phases, 1,001 steps)\n"


def test_no_checkpoint_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "recipes" / "splits" / "24-8.yaml"
    assert run(["validate", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("(split-24-8, 1 phase, 1,000 steps, without opening runs/split-plain)\n")
    assert err == f"{path}:12:12: warning: model.profile: no such file `runs/split-profile.json`; checked without opening it\n"
    assert run(["plan", str(path)]) == 2
    assert "runs/split-plain: " in capsys.readouterr().err


def test_a_checkpoint_in_a_folder_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("qwen2_moe", Path("runs/split-plain"))
    path = Path(__file__).parents[2] / "recipes" / "splits" / "24-8.yaml"
    assert run(["validate", str(path)]) == 2
    assert "runs/split-profile.json: no such file" in capsys.readouterr().err


UPCYCLED = """\
  backbone:
    upcycle:
      from: SOURCE
      experts: 8
"""


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("./nowhere", "no such folder `./nowhere`"),
        ("/nowhere/model", "no such folder `/nowhere/model`"),
        ("~/nowhere/model", "no such folder `~/nowhere/model`"),
        ("a/b/c", "no such folder `a/b/c`"),
        ("here/model", "no such folder `here/model`"),
        ("good.yaml", "`good.yaml` is a file, not a folder"),
        ("owner/name", None),
        ("gpt2", None),
    ],
)
def test_a_checkpoint_that_is_not_there_is_warned_of(
    name: str, warning: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be what another command is going to make; a hub id is not looked for."""
    Path("here").mkdir()
    start, end = COMPLETE.index("  backbone:"), COMPLETE.index("  groups:")
    text = COMPLETE[:start] + UPCYCLED.replace("SOURCE", name) + COMPLETE[end:]
    Path("up.yaml").write_text(edited(text, ("  shared:\n    intermediate_size: 32\n", "")), encoding="utf-8")
    assert run(["validate", "up.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith(f"without opening {name})\n")
    place = "up.yaml:11:13: warning: model.backbone.upcycle.from: "
    assert err == (f"{place}{warning}; checked without opening it\n" if warning else "")


def test_mistakes_of_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "bad.yaml", "good.yaml", "missing.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == "ok  good.yaml  (complete, 2 phases, 1,300 steps)\n"
    assert (
        err
        == """\
bad.yaml:58:5: error: unknown key `stepz`
  58 |     stepz: 300
     |     ^^^^^
  help: did you mean `steps`?

missing.yaml: error: no such file

2 of 3 recipes cannot be used
"""
    )


def test_mistake_in_an_override(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "good.yaml", "--set", "phases.0.stepz=3"]) == 2
    assert capsys.readouterr().err.startswith("--set phases.0.stepz=3: error: unknown key `stepz`\n")


def test_mistakes_that_the_plan_finds_are_placed() -> None:
    text = edited(COMPLETE, ("freeze: [vision]", "freeze: [vison]"))
    Path("role.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_and_compile("role.yaml")
    assert str(caught.value).startswith("role.yaml:74:14: error: ")
    assert "  74 |     freeze: [vison]\n     |              ^^^^^" in str(caught.value)


def test_plan_comes_with_the_recipe() -> None:
    loaded, plan = load_and_compile("good.yaml", ["seed=5"])
    assert (loaded.recipe.seed, plan.total_steps) == (5, 1300)


def test_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate"]) == 2
    assert capsys.readouterr().err.startswith("error: missing argument")

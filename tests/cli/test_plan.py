"""`smoe plan`, from the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from smoe_cli.cli.plan import command
from smoe_cli.plan import compile_plan
from smoe_cli.recipe import RecipeError, load
from tests.plan.recipes import SMALL

PAPER = Path(__file__).parents[2] / "recipes" / "symbiotic-30b-a3b.yaml"


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return str(path)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_terminal(small: str) -> None:
    output = run(small).output
    for section in ("Expert groups", "Per token", "Parameters", "Phases", "Learning rates", "Timeline", "Memory of one device"):
        assert section in output


def test_piped_output_is_plain_and_fits_80_columns(small: str) -> None:
    output = run(small).output
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) <= 80


def test_json_is_the_plan(small: str) -> None:
    output = run(small, "--json").output
    assert json.loads(output) == compile_plan(load(small).recipe).to_dict()
    assert output == run(small, "--json").output


def test_overrides_reach_the_plan(small: str) -> None:
    output = run(
        small, "--json", "--set", "phases.0.steps=7", "--set", "phases.0.shields=[]", "--set", "phases.1.steps=8"
    ).output
    assert json.loads(output)["total_steps"] == 15


def test_processes_share_the_activations(small: str) -> None:
    def activations(*arguments: str) -> int:
        return json.loads(run(small, "--json", *arguments).output)["phases"][0]["memory"]["activations"]

    assert activations("--processes", "2") * 2 == activations()


def test_mistakes_are_shown_at_their_place(small: str) -> None:
    line = 1 + Path(small).read_text().splitlines().index("    experts.generation: 0.01")
    broken = Path(small).read_text().replace("experts.generation: 0.01", "expert.generation: 0.01")
    Path(small).write_text(broken)
    with pytest.raises(RecipeError) as error:
        run(small)
    assert f"small.yaml:{line}:5: error: unknown role `expert.generation`" in str(error.value)
    assert "help: did you mean `experts.generation`?" in str(error.value)
    assert error.value.exit_code == 2


def test_the_size_of_the_paper() -> None:
    """128 experts, top-8, split 96/32, 48 layers: about 30B parameters, 3B active, nothing added; planned in a moment."""
    start = time.perf_counter()
    plan = compile_plan(load(PAPER).recipe)
    assert time.perf_counter() - start < 3
    assert 29.5e9 < plan.parameters.total < 31.5e9
    assert 30.4e9 < plan.parameters.backbone < 30.6e9
    assert all(2.5e9 < active.total < 3.5e9 for active in plan.active.values())
    assert plan.parameters.added == 0
    assert [(group.size, len(group.experts)) for group in plan.groups] == [(96, 48), (32, 48)]


def test_the_settings_of_the_paper() -> None:
    plan = compile_plan(load(PAPER).recipe)
    (phase,) = plan.phases
    assert phase.mixture == {"t2i": 0.3, "t2i-long": 0.3, "lm": 0.2, "mmu": 0.2}
    assert {role for role, rate in phase.rates.items() if rate == 1e-4} == {
        "experts.generation",
        "router.generation",
        "latents",
    }
    assert set(phase.rates.values()) == {1e-4, 1e-6}
    assert phase.shields[0].factors == ((0, 0.0), (500, 0.1))
    assert plan.vae_tokens == plan.vit_tokens == 256

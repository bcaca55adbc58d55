"""The Plan as a whole."""

from __future__ import annotations

import json
import subprocess
import sys

from smoe_cli.plan import compile_plan
from tests.plan.recipes import recipe

PRETRAINED = {"kind": "pretrained", "path": "somewhere"}


def test_same_recipe_same_plan() -> None:
    assert compile_plan(recipe()) == compile_plan(recipe())


def test_phases_follow_one_another() -> None:
    plan = compile_plan(recipe())
    assert [(phase.name, phase.start, phase.steps) for phase in plan.phases] == [("warm", 0, 20), ("joint", 20, 30)]
    assert [(phase.rows_per_step, phase.accumulate, phase.tokens) for phase in plan.phases] == [(4, 2, 2560), (2, 1, 1920)]
    assert (plan.total_steps, plan.total_tokens) == (50, 4480)


def test_mixture_becomes_shares() -> None:
    plan = compile_plan(recipe())
    assert plan.phases[0].mixture == {"docs": 0.25, "read": 0.25, "draw": 0.5}


def test_shields_become_staircases() -> None:
    plan = compile_plan(recipe())
    (shield,) = plan.phases[0].shields
    assert (shield.module, shield.modalities, shield.mode) == ("shared", ("vae",), "path")
    assert shield.factors == ((0, 0.0), (10, 0.1))
    assert plan.phases[1].shields == ()


def test_image_tokens() -> None:
    plan = compile_plan(recipe())
    assert plan.vit_tokens == (8 // 4) * (12 // 2)
    assert plan.vae_tokens == (8 // 4) * (8 // 2)
    assert plan.latent_dim == 3 * 4 * 2


def test_vocabulary() -> None:
    key = "model.backbone.scratch.vocab_size"
    assert compile_plan(recipe()).vocab_size == 261
    assert compile_plan(recipe(**{key: 300})).vocab_size == 300
    assert compile_plan(recipe(**{key: 1000, "model.tokenizer": PRETRAINED})).vocab_size == 1000


def test_json() -> None:
    plan = compile_plan(recipe())
    written = plan.to_dict()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["groups"][1]["experts"] == [[6, 7], [6, 7]]
    assert written["phases"][0]["rates"]["experts.generation"] == 1e-2
    assert written["phases"][0]["memory"]["total"] == plan.phases[0].memory.total
    assert len(written["tensors"]) == len(plan.tensors)


def test_no_torch_is_needed() -> None:
    code = (
        "import sys\n"
        "from tests.plan.recipes import recipe\n"
        "from smoe_cli.plan import compile_plan\n"
        "compile_plan(recipe())\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

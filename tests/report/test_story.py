"""What was trained and from what: sentences for every kind of start."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoe_cli.report.load import Run, Span
from smoe_cli.report.story import story
from tests.report.synthetic import write_json
from tests.report.test_page import page, words

PLAN = {
    "groups": [
        {"name": "text", "modalities": ["text"], "experts": [[0, 1, 2]]},
        {"name": "vit", "modalities": ["vit"], "experts": [[3]]},
        {"name": "draw", "modalities": ["vae"], "experts": [[0, 1]], "mounted_from": "text"},
    ],
    "top_k": 2,
    "roles": ["experts.text", "experts.vit", "experts.draw", "latents"],
    "parameters": {"total": 7_123_456_789, "added": 0},
    "active": {"text": {"total": 1_300_000_000}, "vae": {"total": 1_250_000_000}},
    "phases": [{"name": "joint", "tokens_per_step": 1000, "frozen": ["experts.text", "experts.vit", "latents"], "shields": []}],
}


def told(start: dict[str, Any], plan: dict[str, Any] = PLAN, **more: Any) -> str:
    recipe = {
        "model": {"backbone": start},
        "data": {"sources": {"read": {"task": "mmu"}, "draw": {"task": "t2i"}}},
        "phases": [{"name": "joint", "mixture": {"read": 1, "draw": 2}}],
    }
    run = Run(Path(), "r", recipe=recipe, plan=plan, phases=(Span("joint", 0, 50),), last_step=50, **more)
    return words(str(story(run))).strip()


FAMILY = {"family": "olmoe", "config": {"num_hidden_layers": 16, "hidden_size": 2048}}
SIZE = "7.12 G parameters, 1.25 G to 1.3 G active for a token."
STARTS = [
    (
        {"scratch": {"family": "qwen2_moe", "num_hidden_layers": 4, "hidden_size": 128}},
        {},
        f"Fresh weights of a qwen2_moe decoder, 4 layers of width 128; {SIZE}",
    ),
    ({"pretrained": {"path": "olmoe-1b"}}, FAMILY, f"olmoe-1b, checkpoint of family olmoe, 16 layers of width 2048; {SIZE}"),
    ({"pretrained": {"path": "a/b", "revision": "c0ffee"}}, {}, f"a/b at c0ffee, a mixture-of-experts checkpoint; {SIZE}"),
    (
        {"upcycle": {"from": "./smollm2", "experts": 3, "shared": 1}},
        {**FAMILY, "family": "llama"},
        f"./smollm2, checkpoint of family llama, 16 layers of width 2048; {SIZE} Dense, made sparse: every feed-forward became "
        "3 routed copies of itself and 1 shared.",
    ),
]


@pytest.mark.parametrize(("backbone", "config", "sentence"), STARTS)
def test_where_it_comes_from(backbone: dict[str, Any], config: dict[str, Any], sentence: str) -> None:
    assert sentence in told(backbone, backbone=config).replace("2,048", "2048")


def test_multimodal_checkpoints_have_their_size_inside() -> None:
    config = {"family": "qwen3_vl_moe", "config": {"text_config": {"num_hidden_layers": 3, "hidden_size": 64}}}
    assert "3 layers of width 64" in told({"pretrained": {"path": "x"}}, backbone=config)


def test_how_it_is_split_trained_and_protected() -> None:
    shown = told({"pretrained": {"path": "x"}})
    for sentence in (
        "Per layer 3 text, 1 vit and 2 draw (vae, copied from text), 2 for each token.",
        "joint for 50 steps on draw (drawing), read; 50 k tokens.",
        "In joint all but experts.draw frozen.",
    ):
        assert sentence in shown


def test_a_shield_is_told_as_a_staircase() -> None:
    shield = {"module": "shared", "modalities": ["vit", "vae"], "factors": [[0, 0.0], [20, 0.1], [90, 1]]}
    plan = {**PLAN, "phases": [{"name": "joint", "frozen": [], "shields": [shield]}]}
    stairs = "is cut, scaled by 0.1 from step 20 of the phase, open from step 90 of the phase."
    assert f"In joint the gradient of vit, vae tokens through shared {stairs}" in told({"pretrained": {"path": "x"}}, plan)


def test_phases_in_a_row_that_are_protected_alike_are_told_together() -> None:
    phases = [{"name": name, "frozen": frozen} for name, frozen in (("a", ["latents"]), ("b", ["latents"]), ("c", []))]
    assert "ProtectedIn a and b latents frozen." in told({}, {**PLAN, "phases": phases})


def test_nothing_is_made_up() -> None:
    assert told({}, {}) == "Trainingjoint for 50 steps on draw (drawing), read."
    open_plan = {**PLAN, "phases": [{"name": "joint", "frozen": [], "shields": []}]}
    assert "Nothing: all roles are trained in every phase" in told({}, open_plan)


SHARED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "1 expert for text, vit, vae"),
    ({"shared": {"count": 3, "modalities": ["text"]}}, {}, "3 experts for text"),
    ({"shared": {"modalities": ["text", "vit", "vae"]}}, {"active": {"text": {}, "vit": {}}}, "1 expert for text, vit"),
    ({"shared": {"promote": 1, "modalities": ["text", "vit", "vae"]}}, {"promoted": [[6]]}, "1 promoted for text, vit, vae"),
    ({"backbone": {"pretrained": {"path": "x"}}, "shared": None}, {}, "the checkpoint's own for text, vit, vae"),
    ({"backbone": {"pretrained": {"path": "x"}}, "shared": {"modalities": ["vit"]}}, {}, "the checkpoint's own for vit"),
    ({"backbone": {"pretrained": {"path": "x"}}, "shared": "none"}, {"roles": ["dense"]}, "none"),
    (
        {"backbone": {"pretrained": {"path": "x"}}, "shared": "none"},
        {"roles": ["dense"], "parameters": {"total": 9, "left_out": 3}},
        "none; the checkpoint's own are left out",
    ),
    ({"backbone": {"upcycle": {"from": "x", "shared": 1}}, "shared": None}, {}, "1 copy for text, vit, vae"),
    ({"backbone": {"upcycle": {"from": "x", "shared": 2}}, "shared": None}, {}, "2 copies for text, vit, vae"),
    ({"backbone": {"upcycle": {"from": "x", "shared": 0}}, "shared": None}, {"roles": ["dense"]}, "none"),
]


@pytest.mark.parametrize(("model", "plan", "told"), SHARED)
def test_how_many_shared_experts_and_whose(run_dir: Path, model: dict[str, Any], plan: dict[str, Any], told: str) -> None:
    resolved, compiled = run_dir / "recipe.resolved.yaml", run_dir / "plan.json"
    recipe = yaml.safe_load(resolved.read_text(encoding="utf-8"))
    recipe["model"] |= model
    resolved.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    write_json(compiled, json.loads(compiled.read_text(encoding="utf-8")) | plan)
    found = re.search(r"Always on: (.*?)\.</dd>", page(run_dir))
    assert found
    assert words(found[1]) == told

"""The drawing of the phases over steps."""

from __future__ import annotations

from typing import Any

import pytest

from smoe_cli.plan import compile_plan
from smoe_cli.plan.timeline import ASCII, BLOCKS, Glyphs, Line, timeline
from tests.plan.recipes import recipe


def drawn(width: int = 30, glyphs: Glyphs = BLOCKS, **changes: Any) -> dict[str, Line]:
    made = recipe(**changes)
    return {line.label: line for line in timeline(compile_plan(made), made, width, glyphs)}


def test_bars_and_steps() -> None:
    lines = drawn()
    assert lines["phase"].cells == "├── warm ──┤├──── joint ─────┤"
    assert lines["step"].cells == "0           20              50"


def test_every_line_has_the_width() -> None:
    for width in (16, 30, 77):
        assert {len(line.cells) for line in drawn(width).values()} == {width}


def test_learning_rates() -> None:
    lines = drawn()
    assert lines["experts.generation"].cells == "▃▆██████████████▇▇▆▆▅▅▄▃▃▃▂▂▂▂"
    assert lines["experts.generation"].note == "1e-2"
    assert lines["router.generation"].note == "1e-3 → 1e-2"


def test_frozen_and_zero_look_different() -> None:
    lines = drawn(**{"phases.0.learning_rate": {"shared": 0.0, "default": 1e-3}})
    assert lines["vision"].cells[:12] == "············"
    assert lines["vision"].note == "frozen → 1e-4"
    assert lines["shared"].cells[:12] == "▁▁▁▁▁▁▁▁▁▁▁▁"
    assert lines["shared"].note == "0 → 1e-4"


def test_small_is_not_drawn_as_none() -> None:
    lines = drawn(**{"phases.0.learning_rate": {"shared": 1e-9, "default": 1e-3}})
    assert lines["shared"].cells[:12] == "▂" * 12


def test_shields_are_open_outside_their_phase() -> None:
    line = drawn()["shared ← vae"]
    assert line.cells == "▁▁▁▁▁▁▂▂▂▂▂▂██████████████████"
    assert line.note == "0 → 0.1 → 1"


def test_a_very_short_phase_keeps_its_name() -> None:
    lines = drawn(40, **{"phases.0.steps": 1, "phases.0.warmup": 0, "phases.1.steps": 100_000, "phases.0.shields": None})
    assert lines["phase"].cells.startswith("├warm┤├")
    assert lines["step"].cells.startswith("0     1 ")


def test_many_phases_in_few_columns() -> None:
    one = recipe().phases[1].model_dump()
    made = recipe(phases=[{**one, "name": f"phase-{i}", "steps": 10 * i + 1} for i in range(12)])
    lines = timeline(compile_plan(made), made, 20, BLOCKS)
    assert len({len(line.cells) for line in lines}) == 1


@pytest.mark.parametrize("glyphs", [ASCII, BLOCKS])
def test_ascii_stays_ascii(glyphs: Glyphs) -> None:
    text = "".join(line.label + line.cells + line.note for line in drawn(glyphs=glyphs).values())
    assert text.isascii() == (glyphs is ASCII)


def test_evaluations_are_marked_after_their_step() -> None:
    """Steps 0 to 19 have twelve columns, 20 to 49 eighteen; the ends of the phases are marked too."""
    tasks = [{"task": "bits-per-byte", "data": "texts.jsonl"}]
    lines = drawn(evaluation={"tasks": tasks, "during": [0, 10, 40]})
    assert lines["evaluation"].cells == "●    ●     ●           ●     ●"
    assert lines["evaluation"].note == "after 0, 10, 40 and each phase"
    lines = drawn(glyphs=ASCII, evaluation={"tasks": tasks, "during": [1, 2, 3, 4, 5]})
    assert lines["evaluation"].note == "after 5 steps and each phase"
    assert "evaluation" not in drawn()

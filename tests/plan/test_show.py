"""The plan in the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from smoe_cli.plan import compile_plan
from smoe_cli.plan.show import show
from tests.plan.recipes import recipe


def shown(width: int = 80, encoding: str = "utf-8", processes: int = 1, **changes: Any) -> str:
    made = recipe(**changes)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    show(compile_plan(made, processes), made, Console(file=stream, width=width, highlight=False))
    stream.flush()
    return raw.getvalue().decode(encoding)


def row(text: str, label: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith(label))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_is_cut_or_wider_than_the_terminal(width: int) -> None:
    text = shown(width, training={"precision": "bf16", "ema": {"decay": 0.9}})
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_the_numbers_of_the_plan_are_there() -> None:
    text = shown()
    assert "22.8K parameters, 12.4K active for a text token, 50 steps, 4.48K tokens" in text
    assert "added to the backbone by the split: 0" in text
    assert row(text, "understanding") == ["understanding", "text,", "vit", "0-5", "6", "2"]
    assert row(text, "latents") == ["latents", "9", "5.21K", "5.21K"]
    assert row(text, "trainable parameters") == ["trainable", "parameters", "21.5K", "22.8K"]
    assert "shield shared ← vae (path): 0, 0.1 from step 10" in text
    assert "cosine decay to 0.1 of the peak" in text


def test_frozen_is_not_a_rate_of_zero() -> None:
    text = shown(**{"phases.0.learning_rate": {"shared": 0.0, "default": 1e-3}})
    table = text[text.index("Learning rates") :]
    assert row(table, "vision") == ["vision", "frozen", "1e-4"]
    assert row(table, "shared") == ["shared", "0", "1e-4"]


def test_experts_that_differ_by_layer() -> None:
    text = shown(**{"model.groups.0.select": [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7]]})
    assert "differ by layer" in text


def test_many_phases_get_several_tables() -> None:
    one = recipe().phases[1].model_dump()
    text = shown(phases=[{**one, "name": f"a-rather-long-name-{i}"} for i in range(5)])
    assert text.count("Learning rates") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_a_terminal_without_blocks_gets_ascii() -> None:
    assert shown(encoding="ascii").isascii()


def test_processes_are_named() -> None:
    assert "Memory of one device" in shown()
    assert "Memory of each of 2 devices" in shown(processes=2)

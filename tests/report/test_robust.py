"""A run directory written by another version, or damaged, still has a report: any JSON in any place."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smoe_cli.report import write_report
from tests.report.synthetic import write_run

FILES = ["plan.json", "environment.json", "data.json", "eval/generation-rendered-ocr.json"]
LINES = ["metrics.jsonl", "routing.jsonl", "timings.jsonl", "samples.jsonl"]
rubbish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def spoil(value: Any, place: random.Random, instead: Any) -> Any:
    """`value` with one part, at any depth, replaced."""
    if isinstance(value, dict | list) and value and place.random() < 0.8:
        key = place.choice(list(value)) if isinstance(value, dict) else place.randrange(len(value))
        copy = value.copy()
        copy[key] = spoil(value[key], place, instead)
        return copy
    return instead


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("damaged") / "run", every=100)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES + LINES), place=st.randoms(use_true_random=False), instead=rubbish)
def test_any_value_in_any_place(damaged: Path, name: str, place: random.Random, instead: Any) -> None:
    file = damaged / name
    whole = file.read_text(encoding="utf-8")
    try:
        if name in LINES:
            rows = [json.loads(line) for line in whole.splitlines()]
            file.write_text("".join(json.dumps(row) + "\n" for row in spoil(rows, place, [instead])), encoding="utf-8")
        else:
            file.write_text(json.dumps(spoil(json.loads(whole), place, instead)), encoding="utf-8")
        html = write_report(damaged).read_text(encoding="utf-8")
    finally:
        file.write_text(whole, encoding="utf-8")
    assert html.count("<h2 id=") == 10

"""Answers on file, question by question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.predictions import Prediction, best, chosen, is_predictions, read_predictions, write_predictions

FIRST = [chosen("a", (-1.0, -2.5), 0), chosen("b", (-3.0, -2.0, -9.25), 2)]
TEXTS = [Prediction("0", value=12.5, weight=7.0)]


def test_what_is_chosen() -> None:
    assert best([-1.0, -0.5, -0.5]) == 1  # of equal ones the first
    assert [one.correct for one in FIRST] == [True, False]
    assert FIRST[1].facts == {"log_likelihoods": [-3.0, -2.0, -9.25], "chosen": 1, "answer": 2}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    answers = {"mmlu": FIRST, "bits-per-byte": TEXTS}
    write_predictions(tmp_path / "q.jsonl", answers)
    assert read_predictions(tmp_path / "q.jsonl") == answers
    lines = (tmp_path / "q.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[2]) == {"task": "bits-per-byte", "id": "0", "value": 12.5, "weight": 7.0}
    assert is_predictions("\n".join(lines))
    assert not is_predictions('{"step": 1}')
    assert not is_predictions('{"task": "translate", "text": "x"}')


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense", '{"task": "mmlu", "id": "a"}', '["mmlu"]', '{"task": "mmlu", "id": "a", "correct": 1}'),
        '{"task": "mmlu", "id": "a", "value": NaN, "weight": 1}',
        '{"task": "mmlu", "id": "a", "value": 1, "weight": Infinity}',
        '{"task": "mmlu", "id": "a", "value": 1, "weight": 1%s}' % ("0" * 400),
        *("", "[" * 100_000),
    ],
    ids=lambda line: line[:60],
)
def test_a_line_of_another_kind_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    write_predictions(file, {"mmlu": FIRST[:1]})
    file.write_text(file.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"q\.jsonl:2: not a line"):
        read_predictions(file)
    file.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="no predictions"):
        read_predictions(file)
    with pytest.raises(UserError, match="no such file"):
        read_predictions(tmp_path / "nowhere")


def test_answers_may_hold_any_line_end(tmp_path: Path) -> None:
    said = Prediction("0", correct=True, facts={"prediction": "a\u2028b\x85c\x1cd\re\nf"})
    write_predictions(tmp_path / "q.jsonl", {"ocrbench": [said]})
    assert read_predictions(tmp_path / "q.jsonl") == {"ocrbench": [said]}

"""Answers on file, and the comparison of two models question by question."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.questions import Asked, compare, is_questions, read_questions, write_questions

FIRST = [Asked("a", (-1.0, -2.5), 0, 0), Asked("b", (-3.0, -2.0, -9.25), 1, 2)]
SECOND = [Asked("a", (-1.5, -2.5), 0, 0), Asked("b", (-1.0, -2.0, -9.25), 0, 2)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    answers = {"mmlu": FIRST, "arc-easy": SECOND[:1]}
    write_questions(tmp_path / "q.jsonl", answers)
    assert read_questions(tmp_path / "q.jsonl") == answers
    assert is_questions((tmp_path / "q.jsonl").read_text(encoding="utf-8"))
    assert not is_questions('{"step": 1}')


def test_comparison() -> None:
    same, changed = (compare({"mmlu": FIRST}, {"mmlu": other}, Path("q"))[0] for other in (FIRST, SECOND))
    assert (same.same, same.total, same.difference) == (2, 2, 0.0)
    assert (changed.same, changed.total, changed.difference) == (1, 2, 2.0)


def test_other_questions_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="has answers of mmlu, and this evaluation asks arc-easy"):
        compare({"mmlu": FIRST}, {"arc-easy": FIRST}, Path("q"))
    for other in (FIRST[:1], [FIRST[0], Asked("b", (-3.0, -2.0, -9.25), 1, 0)], FIRST[::-1]):
        with pytest.raises(UserError, match="questions of `mmlu`, which are not the"):
            compare({"mmlu": FIRST}, {"mmlu": other}, Path("q"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "q.jsonl:2: not a line"),
        ('{"task": "mmlu", "id": "a"}', "q.jsonl:2: not a line"),
        ('["mmlu"]', "q.jsonl:2: not a line"),
    ],
)
def test_a_line_of_another_kind_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    write_questions(file, {"mmlu": FIRST[:1]})
    file.write_text(file.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_questions(file)
    file.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="no questions"):
        read_questions(file)
    with pytest.raises(UserError, match="no such file"):
        read_questions(tmp_path / "nowhere")

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.text.mmlu_data import load_mmlu
from smoe_cli.eval.text.mmlu_subjects import CATEGORY, SUBJECTS
from tests.eval.tiny import write_mmlu

QUESTION = {"question": "q", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}


def test_subjects() -> None:
    assert len(SUBJECTS) == 57
    assert Counter(CATEGORY.values()) == {"stem": 19, "other": 13, "social_sciences": 12, "humanities": 13}


def write_split(folder: Path, split: str, rows: list[dict]) -> None:
    """A split as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_no_examples_are_needed_for_zero_shots(tmp_path: Path) -> None:
    write_split(tmp_path / "anatomy", "test", [QUESTION])
    assert load_mmlu(tmp_path, shots=0).subjects[0].dev == ()
    with pytest.raises(UserError, match=r"`anatomy` has 0 example\(s\) in its `dev` split, 1 shots asked"):
        load_mmlu(tmp_path, shots=1)


def test_too_few_examples(tmp_path: Path) -> None:
    write_mmlu(tmp_path / "mmlu", {"anatomy": 2})
    with pytest.raises(UserError, match=r"`anatomy` has 5 example\(s\) in its `dev` split, 6 shots asked") as caught:
        load_mmlu(tmp_path / "mmlu", shots=6)
    assert caught.value.help == "pass --shots 5, or add the `dev` split"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "`question` is not a text"),
        ({"question": "\ud800"}, "`question` is not a text"),
        ({"choices": ["a", "b", "c"]}, "`choices` is not a list of four texts"),
        ({"choices": ["a", "b", "c", None]}, "`choices` is not a list of four texts"),
        ({"choices": "abcd"}, "`choices` is not a list of four texts"),
        ({"answer": 4}, "`answer` is 4, expected 0–3 or A–D"),
        ({"answer": "E"}, "`answer` is 'E', expected 0–3 or A–D"),
        ({"answer": 1.5}, "`answer` is 1.5, expected 0–3 or A–D"),
        ({"answer": True}, "`answer` is True, expected 0–3 or A–D"),
        ({"answer": None}, "`answer` is None, expected 0–3 or A–D"),
    ],
)
def test_bad_rows_name_file_and_row(tmp_path: Path, change: dict, message: str) -> None:
    write_split(tmp_path / "anatomy", "test", [QUESTION, QUESTION | change])
    with pytest.raises(UserError) as caught:
        load_mmlu(tmp_path, shots=0)
    assert caught.value.message == f"{tmp_path / 'anatomy' / 'test.jsonl'}: row 2: {message}"


def test_missing_column_names_file_and_row(tmp_path: Path) -> None:
    write_split(tmp_path / "anatomy", "test", [{"question": "q", "answer": 1}])
    with pytest.raises(UserError, match=r"test\.jsonl: row 1: no column `choices`"):
        load_mmlu(tmp_path, shots=0)


@pytest.mark.parametrize(("name", "text"), [("test.jsonl", ""), ("test.csv", ""), ("test.csv", "question,A,B,C,D,answer\n")])
def test_an_empty_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "anatomy").mkdir()
    (tmp_path / "anatomy" / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_mmlu(tmp_path, shots=0)
    assert caught.value.message == f"{tmp_path / 'anatomy' / name}: no rows"


def test_missing_columns_name_those_that_are_there(tmp_path: Path) -> None:
    write_split(tmp_path / "anatomy", "test", [{"prompt": "q", "choices": ["a", "b", "c", "d"], "answer": 1}])
    with pytest.raises(UserError) as caught:
        load_mmlu(tmp_path, shots=0)
    assert caught.value.message.endswith("test.jsonl: row 1: no column `question`")
    assert caught.value.help == "columns of this file: prompt, choices, answer"

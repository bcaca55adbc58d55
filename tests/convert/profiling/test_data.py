"""Data to profile over: what an argument means, in which order, and when two are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from smoe_cli.convert.profiling.data import Documents, key_of, open_data
from smoe_cli.convert.profiling.hash import BLOCK, BLOCKS, fingerprint
from smoe_cli.data.prose import passages
from smoe_cli.errors import UserError
from smoe_cli.eval.text.mmlu import CONTINUATIONS, prompt
from smoe_cli.eval.text.mmlu_data import load_mmlu
from tests.convert.profiling.profiles import picture, texts, write_pictures, write_texts
from tests.eval.tiny import write_mmlu


def only(argument: object, limit: int | None = None) -> Documents:
    (found,) = open_data(str(argument), limit)
    return found


def all_texts(documents: Documents) -> list[str]:
    return [documents.read(i).text for i in range(documents.rows)]


def test_texts_in_a_shuffled_order_that_stays(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.jsonl", 40)
    documents = only(path)
    assert (documents.task, documents.rows) == ("lm", 40)
    assert sorted(all_texts(documents)) == sorted(texts(40))
    assert all_texts(documents) != texts(40)
    assert all_texts(only(path)) == all_texts(documents)
    assert "row" in documents.place(0)
    assert "a.jsonl" in documents.place(0)


def test_the_order_does_not_depend_on_where_the_data_lie(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.jsonl", 20)
    moved = tmp_path / "elsewhere" / "b.jsonl"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    assert all_texts(only(path)) == all_texts(only(moved))
    assert only(path).content == only(moved).content


def test_other_data_have_another_key(tmp_path: Path) -> None:
    first, second = (only(write_texts(tmp_path / f"{seed}.jsonl", 20, seed)) for seed in (0, 1))
    assert first.content != second.content
    assert key_of(first, "2048") != key_of(first, "1024")


def test_images_with_questions(tmp_path: Path) -> None:
    documents = only(write_pictures(tmp_path / "pictures", 6))
    assert (documents.task, documents.rows) == ("mmu", 6)
    sample = documents.read(2)
    where = texts(6).index(sample.text)
    assert sample.question == "what?"
    assert sample.image is not None
    assert sample.image.tobytes() == picture(where).tobytes()


def test_ocrbench_columns(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "ocr", 4)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "train.jsonl").unlink()
    rows = [{**row, "dataset": "x", "question_type": "y", "answer": [row["answer"], "other"]} for row in rows]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    documents = only(folder)
    assert documents.task == "mmu"
    assert sorted(all_texts(documents)) == sorted(texts(4))


def test_mmlu_is_each_question_with_its_answer(tmp_path: Path) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 2})
    documents = only(folder)
    expected = [
        prompt(subject.name, question, ()) + CONTINUATIONS[question.answer]
        for subject in load_mmlu(folder, 0).subjects
        for question in subject.test
    ]
    assert sorted(all_texts(documents)) == sorted(expected)
    assert "of anatomy" in documents.place(0) or "of virology" in documents.place(0)


def test_built_in_prose() -> None:
    documents = only("python-docs")
    assert documents.rows == len(passages())
    assert documents.read(0).text in passages()


def test_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_texts(tmp_path / f"{split}.jsonl", 5, seed=len(split))
    assert sorted(all_texts(only(tmp_path))) == sorted(texts(5, len("train")))
    assert sorted(all_texts(only(f"{tmp_path}:test"))) == sorted(texts(5, len("test")))
    with pytest.raises(UserError, match='no split "validation"'):
        only(f"{tmp_path}:validation")


RECIPE = Path(__file__).parents[3] / "recipes" / "quickstart.yaml"


def test_a_recipe_stands_for_its_sources() -> None:
    found = open_data(str(RECIPE), 3)
    assert {documents.task for documents in found} <= {"lm", "mmu"}
    assert all(documents.rows == 3 or documents.task == "lm" for documents in found)
    assert {d.task for d in open_data(str(RECIPE), 3, draws=True)} >= {"t2i"}
    with pytest.raises(UserError, match="never ends"):
        open_data(str(RECIPE), None)


def test_what_cannot_be_counted_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data .*none\.jsonl: there is no file or folder"):
        only(tmp_path / "none.jsonl")
    other = tmp_path / "other.csv"
    other.write_text("name,size\nx,1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"neither a column `text` nor .* \(columns: name, size\)"):
        only(other)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"row 1 of .*broken\.jsonl: not valid JSON"):
        only(broken)


def test_a_large_file_is_sampled_and_a_small_one_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytearray(BLOCK * 3 + 5)
    hashes = set()
    for at in (None, 0, BLOCK + 7, len(content) - 1):
        changed = bytearray(content)
        if at is not None:
            changed[at] = 1
        path.write_bytes(changed)
        hashes.add(fingerprint([path]))
    assert len(hashes) == 4
    with path.open("wb") as file:
        file.truncate(2 * BLOCK * BLOCKS)  # sparse: zeros that take no room
    before = fingerprint([path])
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    assert fingerprint([path]) != before

"""Paths, globs, folders and splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.data.files import find_files, is_local
from smoe_cli.errors import UserError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _names(root: Path, path: str, split: str) -> list[str]:
    return [str(file.relative_to(root)) for file in find_files(path, split)]


def test_a_file_and_a_glob_are_the_split_train(tmp_path: Path) -> None:
    _touch(tmp_path, "b.jsonl", "a.jsonl", "c.txt", "deep/d.jsonl")
    assert _names(tmp_path, f"{tmp_path}/b.jsonl", "train") == ["b.jsonl"]
    assert _names(tmp_path, f"{tmp_path}/*", "train") == ["a.jsonl", "b.jsonl"]
    assert _names(tmp_path, f"{tmp_path}/**/*.jsonl", "train") == ["a.jsonl", "b.jsonl", "deep/d.jsonl"]


def test_a_folder_without_names_of_splits_is_all_train(tmp_path: Path) -> None:
    _touch(tmp_path, "b.csv", "a.parquet", "sub/c.json", "README.md", ".hidden.csv", ".git/x.csv")
    assert _names(tmp_path, str(tmp_path), "train") == ["a.parquet", "b.csv", "sub/c.json"]


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (["train.csv", "test.csv"], "test", ["test.csv"]),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/dev.parquet"], "train", None),
        (["data/val_1.jsonl", "data/train.jsonl"], "validation", ["data/val_1.jsonl"]),
        (["train/a.csv", "train/b.csv", "dev/test.csv"], "validation", ["dev/test.csv"]),
        (["train/cat/1.png", "train/dog/1.png", "test/cat/2.png"], "test", ["test/cat/2.png"]),
        (["data/train/1.png", "data/train/metadata.csv", "data/test/metadata.csv"], "train", ["data/train/metadata.csv"]),
        (["trainer.csv"], "train", ["trainer.csv"]),
    ],
)
def test_splits_by_folder_or_name(tmp_path: Path, names: list[str], split: str, expected: list[str] | None) -> None:
    _touch(tmp_path, *names)
    assert _names(tmp_path, str(tmp_path), split) == (expected or names[:2])


def test_images_count_only_where_there_is_no_table(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/1.png", "cat/2.JPG", "dog/3.webp", "notes.txt")
    assert _names(tmp_path, str(tmp_path), "train") == ["cat/1.png", "cat/2.JPG", "dog/3.webp"]
    _touch(tmp_path, "metadata.jsonl")
    assert _names(tmp_path, str(tmp_path), "train") == ["metadata.jsonl"]


def test_a_missing_split_names_those_that_exist(tmp_path: Path) -> None:
    _touch(tmp_path, "train.csv", "test.csv")
    with pytest.raises(UserError, match='has no split "validation"') as caught:
        find_files(str(tmp_path), "validation")
    assert caught.value.help == "it has: test, train"
    with pytest.raises(UserError) as caught:
        find_files(str(tmp_path / "train.csv"), "test")
    assert caught.value.help == "it has: train"


def test_a_missing_file_names_what_lies_there(tmp_path: Path) -> None:
    _touch(tmp_path, "good.jsonl", "sub/x.csv")
    for path, what in (
        (f"{tmp_path}/god.jsonl", "no file or folder"),
        (f"{tmp_path}/*.parquet", "no file matches"),
        (f"{tmp_path}/no/pe/a.csv", "no file"),
    ):
        with pytest.raises(UserError, match=what) as caught:
            find_files(path, "train")
        assert caught.value.help == f"{tmp_path}/ holds: good.jsonl, sub/"


def test_an_empty_folder_and_a_strange_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data files"):
        find_files(str(tmp_path), "train")
    _touch(tmp_path, "a.xlsx")
    with pytest.raises(UserError, match="is not a data file"):
        find_files(str(tmp_path / "a.xlsx"), "train")


def test_what_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _touch(tmp_path, "my/data/a.csv")
    assert all(
        is_local(path) for path in ("my/data", "a.jsonl", "org/data.csv", "./x", "/x", "~/x", "a/b/c", "x*", str(tmp_path))
    )
    assert not any(is_local(path) for path in ("mnist", "org/name", "HuggingFaceM4/the_cauldron", "org/name-v1.5"))

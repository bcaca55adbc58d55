from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from smoe_cli.errors import UserError
from smoe_cli.eval.provenance import hash_files, versions
from smoe_cli.eval.results import FORMAT, Count, Metric, Result, free_path, is_results, read_results, table, write_json

RESULT = Result(
    task="mmlu",
    name="mmlu",
    metrics={"acc": Metric.share(Count(3, 4)), "kid/x": Metric(0.25, None, "lower")},
    groups={"stem": Count(1, 2), "other": Count(2, 2)},
    subgroups={"anatomy": Count(1, 2), "virology": Count(2, 2)},
    protocol={"shots": 5},
    phase="joint",
    step=7,
)


def test_json_object() -> None:
    value = json.loads(json.dumps(RESULT.to_dict()))
    assert (value["task"], value["name"], value["phase"], value["step"]) == ("mmlu", "mmlu", "joint", 7)
    assert (value["score"], value["correct"], value["total"]) == (0.75, 3, 4)
    assert value["groups"] == {"stem": {"correct": 1, "total": 2}, "other": {"correct": 2, "total": 2}}
    assert value["protocol"] == {"shots": 5}
    assert value.keys() >= {"versions", "hashes", "time", "warnings", "subgroups", "model", "circumstances"}
    assert value["metrics"]["kid/x"] == {"value": 0.25, "standard_error": None, "better": "lower"}
    assert value["metrics"]["acc"]["standard_error"] == pytest.approx(0.25)  # √(3/4 · 1/4 / 3)


@pytest.mark.parametrize("details", [False, True])
def test_table_shows_counts(details: bool) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(table([RESULT], details))
    lines = [line.replace("│", " ").split() for line in console.file.getvalue().splitlines()]
    assert ["mmlu", "acc", "0.750", "0.250", "3/4"] in lines
    assert ["kid/x", "↓", "0.250"] in lines
    assert ["stem", "0.500", "0.500", "1/2"] in lines
    assert (["anatomy", "0.500", "0.500", "1/2"] in lines) is details


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    with pytest.raises(ValueError):
        write_json(file, {"a": float("nan")})  # not JSON
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1}
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_results_are_read_again_and_others_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    for written in (RESULT.to_dict(), [RESULT.to_dict()]):
        write_json(file, written)
        assert read_results(file) == [RESULT.to_dict()]
    for changes, message in (
        ({"format": FORMAT + 1}, f"written by a newer smoe; this one reads up to {FORMAT}"),
        ({"format": None}, "not a result of `smoe eval`"),
        ({"metrics": {}}, "`metrics` is missing or damaged"),
        ({"protocol": 3}, "`protocol` is missing or damaged"),
    ):
        write_json(file, {**RESULT.to_dict(), **changes})
        with pytest.raises(UserError, match=message):
            read_results(file)
    for text, message in (
        ("[]", "no results"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read"),
        ("3", "not a result"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_results(file)
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json: cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_free_path(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = free_path(tmp_path / "a.png")
        path.write_text("", encoding="utf-8")
        names.append(path.name)
    assert names == ["a.png", "a-2.png", "a-3.png"]


def test_hash_of_several_files_sees_names_and_bytes_but_not_the_place_or_the_order(tmp_path: Path) -> None:
    def digest(folder: str, files: dict[str, str]) -> str:
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text, encoding="utf-8")
        return hash_files([tmp_path / folder / name for name in files], tmp_path / folder)["sha256"]

    one = digest("one", {"a": "1", "b": "2"})
    assert one == digest("two", {"b": "2", "a": "1"})
    assert (
        len({one, digest("three", {"a": "2", "b": "1"}), digest("four", {"a": "1", "c": "2"}), digest("five", {"a": "1"})}) == 4
    )


def test_versions() -> None:
    assert versions().keys() == {"python", "smoe", "torch", "transformers"}


def test_only_results_look_like_results(tmp_path: Path) -> None:
    for written in (RESULT.to_dict(), [RESULT.to_dict()], []):
        write_json(tmp_path / "r.json", written)
        assert is_results((tmp_path / "r.json").read_text(encoding="utf-8"))
        assert is_results(json.dumps(written))
    for other in ('[{"question": "?"}]', '{"model_type": "llama"}', '{"format": 1, "experts": []}', "[1]", "[", "", "# notes"):
        assert not is_results(other)


def test_names_are_shown_as_they_are() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(
        table([replace(RESULT, name="[/x]", metrics={"[bold]": Metric(1.0)}, groups={"[/a]": Count(), "b": Count()})])
    )
    assert all(name in console.file.getvalue() for name in ("[/x]", "[bold]", "[/a]"))

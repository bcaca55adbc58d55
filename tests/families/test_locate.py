"""Folders, and models of the hub that its cache holds. Nothing here reaches the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.families.locate import locate
from tests.families.conftest import Written

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OPEN = """
import sys
from smoe_cli.errors import UserError
from smoe_cli.families import open_checkpoint, read_backbone
for argument in sys.argv[1:]:
    name, _, revision = argument.partition("@")
    try:
        checkpoint = open_checkpoint(name, revision or None)
        print(checkpoint.folder, read_backbone(checkpoint).family)
    except UserError as error:
        print("refused:", error)
    print("---")
"""


def cached(home: Path, source: Path) -> Path:
    """The hub's cache with one model in it: files are blobs, a snapshot links to them, references name the snapshot."""
    model = home / "hub" / "models--org--tiny-moe"
    snapshot = model / "snapshots" / COMMIT
    for folder in (snapshot, model / "blobs", model / "refs"):
        folder.mkdir(parents=True)
    for file in source.iterdir():
        (model / "blobs" / f"blob-{file.name}").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"blob-{file.name}")
    for reference in ("main", "v2"):
        (model / "refs" / reference).write_text(COMMIT)
    return snapshot


def opened(home: Path, *arguments: str) -> list[str]:
    """What a process of its own finds: the hub's library reads the environment when it is imported."""
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home),
        "PATH": "/usr/bin",
        "PYTHONPATH": ":".join(filter(None, sys.path)),
    }
    answer = subprocess.run(
        [sys.executable, "-c", OPEN, *arguments], env=environment, capture_output=True, text=True, check=True, cwd=home
    )
    return [part.strip() for part in answer.stdout.split("---\n")][:-1]


def test_models_of_the_hub(written: Written, tmp_path: Path) -> None:
    snapshot = cached(tmp_path, written("qwen3_moe", "30KB"))
    by_id, by_branch, by_commit, no_revision, no_model = opened(
        tmp_path, "org/tiny-moe", "org/tiny-moe@v2", f"org/tiny-moe@{COMMIT}", "org/tiny-moe@v3", "org/other"
    )
    assert by_id == by_branch == by_commit == f"{snapshot} qwen3_moe"
    assert no_revision.startswith("refused: org/tiny-moe: no such folder here, and the hub answered: ")
    assert no_model.startswith("refused: org/other: no such folder here, and the hub answered: ")
    assert no_model.endswith("or a hub id such as org/name")


def test_a_snapshot_whose_shard_was_never_downloaded(written: Written, tmp_path: Path) -> None:
    snapshot = cached(tmp_path, written("qwen3_moe", "30KB"))
    shard = sorted(snapshot.glob("*.safetensors"))[1]
    shard.unlink()
    (answer,) = opened(tmp_path, "org/tiny-moe")
    assert answer.startswith(f"refused: {shard}: missing")


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert locate("~/model") == tmp_path / "model"


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`revision` has no effect on a local folder"):
        locate(str(tmp_path), "main")


@pytest.mark.parametrize("path", ["/no/such/folder", "./no/such", "a/b/c", "~/nothing here", "~nobody-by-this-name/x"])
def test_no_folder_and_no_id(path: str) -> None:
    with pytest.raises(UserError, match="no such folder") as caught:
        locate(path)
    assert "hub id such as org/name" in str(caught.value)


def test_an_empty_path() -> None:
    with pytest.raises(UserError, match="empty"):
        locate("")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        locate(str(tmp_path / "model.safetensors"))

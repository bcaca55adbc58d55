from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smoe_cli.errors import Failure, SmoeError, UserError
from smoe_cli.eval.targets import check_file, check_folder, writing


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), tmp_path, Path("new/er"), tmp_path / "new"):
        check_folder(folder)
    assert list(tmp_path.iterdir()) == []  # looking makes nothing
    Path("file").write_text("", encoding="utf-8")
    Path("broken").symlink_to("nowhere")
    for folder in (Path("file"), Path("file/below/it"), Path("broken")):
        with pytest.raises(UserError, match="is not a folder"):
            check_folder(folder)
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(UserError, match=f"new: cannot be written: no permission to write in {tmp_path}"):
        check_folder(Path("new"))


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a"
    check_file(file, lambda text: False, "ours")
    for text, fits in (("", True), (" ", True), ("mine", False), ("ours", True)):
        file.write_text(text, encoding="utf-8")
        if fits:
            check_file(file, lambda text: text == "ours", "ours")
        else:
            with pytest.raises(UserError, match="a: exists and is not ours"):
                check_file(file, lambda text: text == "ours", "ours")
    os.mkfifo(tmp_path / "pipe")  # stands for devices: a test that fails must not replace one
    for other in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="not a regular file"):
            check_file(other, lambda text: True, "ours")


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, UserError), (errno.EROFS, UserError), (errno.ENOSPC, Failure)])
def test_what_the_system_says(number: int, kind: type[SmoeError]) -> None:
    with pytest.raises(kind, match=f"a: cannot be written: {os.strerror(number)}"), writing(Path("a")):
        raise OSError(number, os.strerror(number))


def test_errors_that_are_not_the_system_s_pass() -> None:
    with pytest.raises(OSError, match="no such model"), writing(Path("a")):
        raise OSError("no such model")

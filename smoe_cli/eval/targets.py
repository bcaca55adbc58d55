"""Places to write to: looked at before the work begins, and named when writing fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smoe_cli.errors import Failure, UserError

LOOKED_AT = 8 * 2**20
"""Characters of an existing file that are read to see whose it is."""

_USERS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""What another path mends; a full disk, say, is none of them."""


def check_folder(folder: Path, target: Path | None = None) -> None:
    """Raise UserError unless `folder` takes new files, or can be made in the nearest folder above it that exists.

    target: what is to be written in it, for the message.
    """
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not place.is_dir():
        raise UserError(f"{target or folder}: cannot be written: {place} is not a folder", "choose another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{target or folder}: cannot be written: no permission to write in {place}", "choose another place")


def check_file(path: Path, ours: Callable[[str], bool], what: str) -> None:
    """Raise UserError unless `path` can be written, and an existing file there is empty or, by its text, `ours` (`what`)."""
    check_folder(path.absolute().parent, path)
    if not os.path.lexists(path):
        return
    if not path.is_file():  # a folder, or a device such as /dev/null, which must not be replaced
        raise UserError(f"{path}: cannot be written: not a regular file")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LOOKED_AT)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if text.strip() and not ours(text):
        raise UserError(f"{path}: exists and is not {what}", "choose another name, or remove the file first")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's errors within the block into `path: cannot be written`.

    Raises UserError where another path would do, else Failure.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's: libraries raise OSError for reasons of their own
            raise
        kind = UserError if error.errno in _USERS else Failure
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from None

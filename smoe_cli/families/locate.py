"""Finds the folder of a checkpoint: a path, or the id of a model on the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from smoe_cli.errors import UserError

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What is downloaded: config, weights, tokenizer, processor, template."""
UNWANTED = ("*/*", "consolidated*")
"""Copies of the weights in other formats, as some models hold them."""
EXPECTED = (
    "give a folder with config.json and safetensors files (`smoe convert FILE.gguf FOLDER --to original` makes one of a GGUF "
    "file), or a hub id such as org/name"
)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def locate(path: str, revision: str | None = None) -> Path:
    """The local folder of a checkpoint; a model of the hub is downloaded into the hub's cache unless it is there.

    Raises UserError when there is none and the hub has none by this name.
    """
    if not path:
        raise UserError("the path of a checkpoint is empty", EXPECTED)
    folder = Path(os.path.expanduser(path))  # unlike Path.expanduser, leaves the home of an unknown user as it is
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{path}: `revision` has no effect on a local folder", "remove it")
        return folder
    if folder.exists() or not _HUB_ID.fullmatch(path):
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise UserError(f"{path}: {what}", EXPECTED)
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(
            snapshot_download(
                path,
                revision=revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
                # said twice: some versions ask the hub for a commit's list of files even when HF_HUB_OFFLINE is set
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )
    except Exception as error:
        # any of OSError, ValueError, the hub's and the network library's errors
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: no such folder here, and the hub answered: {first_line}", EXPECTED) from error

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.locate import model_folder, open_model, open_plain, run_directory
from tests.families.tiny import write_checkpoint

from .folders import write_run


def test_run_directories_and_model_folders(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert model_folder(run) == model_folder(run / "model") == run / "model"
    assert run_directory(run) == run_directory(run / "model") == run
    assert run_directory(tmp_path) is None
    model, tokenizer = open_model(run / "model")
    assert not model.training
    assert tokenizer.encode("a") == [5 + ord("a")]


def test_what_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        model_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither a model folder"):
        model_folder(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="has no final model yet"):
        model_folder(tmp_path)


def test_a_plain_model_without_a_tokenizer(tmp_path: Path) -> None:
    """The one that transformers would make up reads no text, and every answer would be as likely as the next."""
    folder = write_checkpoint("qwen3", tmp_path / "qwen3")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"qwen3: no tokenizer\.json"):
        open_plain(folder)

"""Plain models of transformers, to be measured by the same code as ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from smoe_cli.data.tokenizer import read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.eval.opening.processor import has_processor, read_processor
from smoe_cli.families import open_checkpoint
from smoe_cli.plan.vocabulary import check_vocabulary


def open_plain(folder: Path, dtype: str = "float32") -> tuple[PreTrainedModel, Any, Any]:
    """(model, tokenizer, processor) of a folder that transformers wrote, on the CPU in evaluation mode.

    processor: of a model that sees images; the UserError that says why there is none, if there is none; None of a model for
    texts. Raises UserError when the folder is incomplete or damaged, or its model does not continue texts.
    """
    checkpoint = open_checkpoint(str(folder))
    config = _config(folder, checkpoint.config)
    try:
        check_vocabulary(folder)
    except UserError as error:
        raise UserError(
            error.message, "copy tokenizer.json and tokenizer_config.json from where the model came from"
        ) from error
    tokenizer = read_tokenizer(str(folder))
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if sees and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not has_processor(folder):
        sees = False  # its language model alone
    auto: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with loading(folder):
        model, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
        )
    problems = [f"lacks the tensor `{name}`" for name in sorted(info["missing_keys"])]
    problems += [
        f"its tensor `{name}` is of another shape than its config says" for name, *_ in sorted(info["mismatched_keys"])
    ]
    if problems:
        more = f", and {len(problems) - 1} more" if problems[1:] else ""
        raise UserError(
            f"{folder}: {problems[0]}{more}", "its files and its config.json do not belong together; copy all again"
        )
    processor: Any = None
    if sees:
        try:
            processor = read_processor(folder, config, tokenizer)
        except UserError as error:
            processor = error
    return model.eval(), tokenizer, processor


def _config(folder: Path, written: dict[str, Any]) -> PreTrainedConfig:
    """The config object of a config.json. Raises UserError unless it is of a model that continues texts."""
    path, name = folder / "config.json", written.get("model_type")
    if not isinstance(name, str):
        raise UserError(f"{path}: has no `model_type`", "it should be the config of a transformers model")
    if name not in CONFIG_MAPPING:
        own = " and runs none of the model's own code" if "auto_map" in written else ""
        raise UserError(f"{path}: this transformers has no model `{name}`{own}", "install a later transformers, if one has")
    with loading(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if config.is_encoder_decoder or not _continues_texts(config):
        written_as = f" (written as {config.architectures[0]})" if config.architectures else ""
        raise UserError(
            f"{folder}: a `{name}` model{written_as} does not continue texts",
            "what can be measured is a causal language model, or one that answers about images in the same way",
        )
    return config


def _continues_texts(config: PreTrainedConfig) -> bool:
    """Whether a config's type has a model for it, and its files were not written by another of its models: BERT has both."""
    kinds: list[Any] = [
        kind[type(config)]
        for kind in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
        if type(config) in kind
    ]
    classes = {cls.__name__ for kind in kinds for cls in (kind if isinstance(kind, tuple) else (kind,))}
    written = [name for name in config.architectures or () if hasattr(transformers, name)]
    return bool(classes) and (not written or bool(classes.intersection(written)))


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Whatever transformers raises in the block becomes a UserError; that there is too little memory stays as it is.

    Which exception it is (OSError, ValueError, KeyError, AttributeError, RuntimeError, …) varies with what is wrong, and with
    the version of transformers.
    """
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # a table of missing tensors, which become an error here
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        raise UserError(
            f"{folder}: transformers cannot load this model: {type(error).__name__}: {' '.join(lines[:2])}",
            "correct config.json, or copy the folder again",
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()

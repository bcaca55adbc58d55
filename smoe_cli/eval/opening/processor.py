"""The processor of a model that sees images: what turns an image and a question into its inputs.

transformers' own `AutoProcessor.from_pretrained` also makes the parts for videos, which need torchvision and are never used
here. So the class that it would choose is filled from an image processor that works with Pillow, the same on every machine,
and the tokenizer.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, ProcessorMixin

# not from `transformers` itself, where some versions only have a stand-in that asks for torchvision
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from smoe_cli.errors import UserError
from smoe_cli.families.checkpoint import read_json

FILES = ("processor_config.json", "preprocessor_config.json")
"""Either holds the settings of an image processor."""
LEFT_OUT = ("video_processor", "feature_extractor")
"""Parts for videos and sounds."""
TORCHVISION = (
    "install the torchvision that was built for the installed torch; a bare `pip install torchvision` may replace torch. "
    "Texts can be asked without it"
)


def has_processor(folder: Path) -> bool:
    """Whether a folder says how its model's images are prepared."""
    return any((folder / name).is_file() for name in FILES)


def read_processor(folder: Path, config: PreTrainedConfig, tokenizer: Any) -> ProcessorMixin:
    """The processor in a folder, for images and texts. tokenizer: of the same folder; it gets a padding token if it has none.

    Raises UserError when there is none, or it needs what is not installed.
    """
    if not has_processor(folder):
        raise UserError(
            f"{folder}: cannot be shown images: it has neither {FILES[0]} nor {FILES[1]}",
            "copy both, where there are both, and chat_template.jinja from where the model came from",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        cls = _class_of(folder, config)
        parts: dict[str, Any] = {"tokenizer": tokenizer, **dict.fromkeys(LEFT_OUT)}
        if more := sorted(set(cls.get_attributes()) - {"image_processor", *parts}):
            raise UserError(f"{folder}: its {cls.__name__} has a part `{more[0]}`, which smoe does not know")
        parts["image_processor"] = AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False, local_files_only=True
        )
        settings, _ = cls.get_processor_dict(folder, local_files_only=True)
        return cls.from_args_and_dict([parts[name] for name in cls.get_attributes()], settings)
    except UserError:
        raise
    except Exception as error:
        # any of ImportError, OSError, ValueError, TypeError, AttributeError, KeyError, depending on what is wrong or missing
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        needs = find_spec("torchvision") is None and "torchvision" in str(error).lower()
        help = TORCHVISION if needs else "compare its files with those of where the model came from"
        raise UserError(f"{folder}: its processor cannot be loaded: {lines[0]}", help) from error


def _class_of(folder: Path, config: PreTrainedConfig) -> type[Any]:
    """The class of processor that a folder names, else that of the model's family, able to go without what is left out."""
    for name in (*FILES, "tokenizer_config.json"):
        if (folder / name).is_file() and (named := read_json(folder / name, "copy it again").get("processor_class")):
            found = getattr(transformers, str(named), None)
            break
    else:
        named, found = config.model_type, PROCESSOR_MAPPING.get(type(config), None)
    if found is None:
        raise UserError(f"{folder}: this transformers has no processor `{named}`", "install a later transformers")
    found.get_attributes()  # of a class whose requirements are missing, this says which

    def check(self: Any, argument_name: str, argument: Any) -> Any:
        left_out = argument is None and argument_name in LEFT_OUT
        return None if left_out else found.check_argument_for_proper_class(self, argument_name, argument)

    return type(found.__name__, (found,), {"check_argument_for_proper_class": check, "__module__": found.__module__})

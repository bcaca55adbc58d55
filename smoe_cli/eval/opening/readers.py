"""What answers questions about images: one of our models, or a plain one of transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import GenerationConfig, PreTrainedModel

from smoe_cli.data.documents import DocumentBuilder
from smoe_cli.errors import UserError
from smoe_cli.eval.limits import check_answer_fits, positions
from smoe_cli.eval.tables import short
from smoe_cli.model.inference import answer
from smoe_cli.model.model import SymbioticModel

SETTINGS = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_pad", "pad_size", "do_convert_rgb"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
    *("patch_size", "merge_size", "min_pixels", "max_pixels", "do_image_splitting", "max_image_size"),
    *("do_pan_and_scan", "image_grid_pinpoints", "min_patches", "max_patches", "crop_to_patches"),
)
"""Of an image processor: what decides which pixels a model sees."""


class OwnReader:
    """One of our models as an `Answerer`."""

    def __init__(self, model: SymbioticModel, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What becomes of an image before the model sees it."""
        return {"size": list(self._builder.vit_size), "resize": "bicubic, keeping proportions, padded with grey", "mode": "RGB"}

    @cached_property
    def _builder(self) -> DocumentBuilder:
        return DocumentBuilder(self.model.recipe, self.model.plan, self.tokenizer)

    def check(self, name: str, image: Image.Image, question: str, max_new_tokens: int) -> None:
        """Raise UserError when a question is no Unicode or too long; any image will do."""
        check_answer_fits(self.model, self._builder, (name, question), max_new_tokens)

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers under the prompt of the training task `mmu`."""
        return answer(self.model, self.tokenizer, images, questions, max_new_tokens)


class PlainReader:
    """A model of transformers as an `Answerer`, with its own processor.

    The prompt is the image, then the question, in the model's chat template; without one, its image token and the question. Of
    its generation settings only the end tokens are used: sampling and penalties would not be greedy decoding.
    """

    def __init__(self, model: PreTrainedModel, processor: Any):
        self.model, self.processor = model, processor
        own, tokenizer = model.generation_config, processor.tokenizer
        ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends or ())

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What becomes of an image before the model sees it, and of the prompt around it."""
        images = self.processor.image_processor
        found = {name: value for name, value in images.to_dict().items() if name in SETTINGS and value is not None}
        template = self._template
        return {
            "processor": type(self.processor).__name__,
            "image_processor": type(images).__name__,
            **found,
            "chat_template_sha256": None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        }

    def check(self, name: str, image: Image.Image, question: str, max_new_tokens: int) -> None:
        """Raise UserError when the processor refuses an image or a question, or the prompt is too long."""
        self._inputs(name, [image], [question], max_new_tokens)

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers; all pairs are one batch, padded on the left. Raises UserError as `check` does."""
        name = _named(questions)
        inputs = self._inputs(name, images, questions, max_new_tokens).to(self.model.device, self.model.dtype)
        length = inputs["input_ids"].shape[1]
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.ends or None,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            bos_token_id=self.processor.tokenizer.bos_token_id,
        )
        own, self.model.generation_config = self.model.generation_config, settings  # it would fill in what is not set
        try:
            with torch.inference_mode():
                rows = self.model.generate(**inputs)[:, length:].tolist()  # type: ignore[operator]
        except ValueError as error:  # image tokens that are not those of the config
            raise UserError(
                f"{name}: {type(self.model).__name__} refuses what its processor made of it: {error}",
                "its config.json and its tokenizer do not fit; copy all files again",
            ) from error
        finally:
            self.model.generation_config = own
        answers = [row[: min((i for i, token in enumerate(row) if token in self.ends), default=len(row))] for row in rows]
        return self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _inputs(self, name: str, images: Sequence[Image.Image], questions: Sequence[str], max_new_tokens: int) -> Any:
        """Token ids, pixels and whatever else the model takes, of prompts that leave room for `max_new_tokens`."""
        try:
            prompts = self._prompts(questions)
            begins = self.processor.tokenizer.bos_token
            inputs = self.processor(
                images=[[image] for image in images],
                text=prompts,
                padding=True,
                padding_side="left",
                return_tensors="pt",
                # a template writes the first token itself
                add_special_tokens=not (self._template and begins and prompts[0].startswith(begins)),
            )
        except (ValueError, TypeError, IndexError, StopIteration, TemplateError) as error:
            # of its image processor, of the count of image tokens in the text, of the template
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{name}: {type(self.processor).__name__} refuses this question or its image: {first}",
                "look at the image, and at the chat template of the model's folder",
            ) from error
        length, limit = inputs["input_ids"].shape[1], positions(self.model, self.processor.tokenizer)
        if length + max_new_tokens > limit:
            raise UserError(
                f"{name}: {length} tokens of prompt and image and {max_new_tokens} of the answer do not fit the model's "
                f"{limit} positions",
                "lower the size of images in its preprocessor_config.json, or allow a shorter answer",
            )
        return inputs

    def _prompts(self, questions: Sequence[str]) -> list[str]:
        if self._template is None:
            return [getattr(self.processor, "image_token", "") + question for question in questions]
        content = [[{"type": "image"}, {"type": "text", "text": question}] for question in questions]
        return self.processor.apply_chat_template(
            [[{"role": "user", "content": parts}] for parts in content],
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
        )

    @property
    def _template(self) -> str | None:
        template = self.processor.chat_template
        return template.get("default") if isinstance(template, dict) else template


def _named(questions: Sequence[str]) -> str:
    more = f" or one of the {len(questions) - 1} after it" if questions[1:] else ""
    return f"question {short(repr(questions[0]))}{more}"

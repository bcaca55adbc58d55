"""Evaluate a model on several tasks: at the end of a training phase, and from `smoe eval`."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from smoe_cli.data.positions import vit_layout
from smoe_cli.errors import UserError
from smoe_cli.eval.generation import check_reads
from smoe_cli.eval.limits import check_answers_fit
from smoe_cli.eval.ocr_data import OcrData, load_ocr
from smoe_cli.eval.ocrbench import MAX_NEW_TOKENS, evaluate_ocr
from smoe_cli.eval.provenance import hash_files, now, versions
from smoe_cli.eval.rendered import write_rendered
from smoe_cli.eval.results import Result, write_json
from smoe_cli.eval.text import TextTask, run_text
from smoe_cli.files import sha256
from smoe_cli.model.inference import answer
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.measures import EvalTask, OcrBench, RenderedOcr
from smoe_cli.recipe.models import Recipe, RenderedText

Progress = Callable[[str, int, int], None]
"""Called with (task, questions done, questions in all)."""


def evaluate(
    model: SymbioticModel | PreTrainedModel,
    tokenizer: Any,
    tasks: Sequence[EvalTask],
    out_dir: Path | None = None,
    *,
    phase: str | None = None,
    step: int | None = None,
    batch_size: int = 8,
    model_folder: Path | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Measure a model of ours, or a plain causal language model (tasks on texts), on each task, in evaluation mode, and write
    each result as soon as it is there.

    out_dir: `<phase>-<task>.json` (`<task>.json` without a phase) goes here, and `data/<source>/` holds drawn questions; None
    writes nothing. model_folder: where the model was loaded from, for the hash of its weights. The model's mode and random
    state are left as they were. Raises UserError on bad data and on a model without what a task needs.
    """
    results: list[Result] = []
    weights = _weights(model_folder) if model_folder else None
    with evaluating(model):
        for task, name in zip(tasks, file_names(phase, tasks), strict=True):
            start = time.monotonic()
            found = _run(model, tokenizer, task, out_dir, batch_size, progress)
            result = dataclasses.replace(
                found,
                protocol={**found.protocol, **_circumstances(model, batch_size)},
                hashes={**found.hashes, "model": weights},
                versions=versions(),
                phase=phase,
                step=step,
                time=now(),
                seconds=time.monotonic() - start,
            )
            results.append(result)
            if out_dir is not None:
                write_json(out_dir / name, result.to_dict())
    return results


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Reader:
    """One of our models as an `Answerer`."""

    def __init__(self, model: SymbioticModel, tokenizer: PreTrainedTokenizerFast):
        self.model, self.tokenizer = model, tokenizer

    def answer(self, images: list[Image.Image], questions: list[str], max_new_tokens: int) -> list[str]:
        """Greedy answers under the prompt of the training task `mmu`."""
        return answer(self.model, self.tokenizer, images, questions, max_new_tokens)


def rendered_source(recipe: Recipe, name: str) -> RenderedText:
    """The source of this name. Raises UserError unless it is a `rendered-text` source with task `mmu`."""
    source = recipe.data.sources.get(name)
    if isinstance(source, RenderedText) and source.task == "mmu":
        return source
    known = [name for name, one in recipe.data.sources.items() if isinstance(one, RenderedText) and one.task == "mmu"]
    raise UserError(
        f"rendered-ocr: `{name}` is not a `rendered-text` source with task `mmu` of this recipe",
        f"sources that can be used: {', '.join(known) or 'none'}",
    )


def _run(
    model: SymbioticModel | PreTrainedModel,
    tokenizer: Any,
    task: EvalTask,
    out_dir: Path | None,
    batch_size: int,
    progress: Progress | None,
) -> Result:
    tell = (lambda done, total: progress(task.task, done, total)) if progress else None
    if isinstance(task, TextTask):
        return run_text(model, tokenizer, task, batch_size, tell)
    if not isinstance(model, SymbioticModel):
        raise UserError(
            f"task `{task.task}` shows images, which a plain language model does not see",
            "ask it: mmlu, arc-easy, bits-per-byte",
        )
    check_reads(model.recipe)
    if isinstance(task, OcrBench):
        return _ocr(model, tokenizer, load_ocr(Path(task.data)), Path(task.data), task, task.limit, batch_size, tell)
    return _rendered(model, tokenizer, task, out_dir, batch_size, tell)


def _rendered(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    task: RenderedOcr,
    out_dir: Path | None,
    batch_size: int,
    tell: Callable[[int, int], None] | None,
) -> Result:
    source = rendered_source(model.recipe, task.source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (out_dir or Path(temporary)) / "data" / task.source
        file = write_rendered(source, task.source, model.recipe.seed, task.questions, folder)
        result = _ocr(model, tokenizer, load_ocr(file), folder, task, None, batch_size, tell)
    return dataclasses.replace(result, protocol={**result.protocol, "source": task.source, "seed": model.recipe.seed})


def _ocr(
    model: SymbioticModel,
    tokenizer: PreTrainedTokenizerFast,
    data: OcrData,
    root: Path,
    task: OcrBench | RenderedOcr,
    limit: int | None,
    batch_size: int,
    tell: Callable[[int, int], None] | None,
) -> Result:
    asked = ((f"{question.row.file}: row {question.row.number}", question.question) for question in data.questions[:limit])
    check_answers_fit(model, tokenizer, asked, MAX_NEW_TOKENS)
    result = evaluate_ocr(Reader(model, tokenizer), data, task.task, limit, batch_size, tell)
    hashes = {"data": hash_files(data.files, root if root.is_dir() else root.parent)}
    size, _ = vit_layout(model.recipe, model.plan)
    image = {"size": list(size), "resize": "bicubic, keeping proportions, padded with grey", "mode": "RGB"}
    return dataclasses.replace(result, protocol={**result.protocol, "image": image}, hashes=hashes)


def _circumstances(model: SymbioticModel | PreTrainedModel, batch_size: int) -> dict[str, Any]:
    """What a score may depend on in its last digits."""
    kernels: dict[str, str]
    if isinstance(model, SymbioticModel):
        training = model.recipe.training
        kernels = {"attention": training.attention, "experts": training.experts}
    else:
        kernels = {"attention": str(model.config._attn_implementation)}
    return {
        "batch_size": batch_size,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "device": model.device.type,
        **kernels,
    }


def _weights(folder: Path) -> dict[str, Any]:
    """Names the weights of a model folder by their hash."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return {"file": files[0].name, "sha256": sha256(files[0])}
    return {"file": "*.safetensors", **hash_files(files, folder)}


def file_names(phase: str | None, tasks: Sequence[EvalTask]) -> list[str]:
    """`<phase>-<task>.json` for each task, with a number from the second task of the same name on."""
    bases = [f"{phase}-{task.task}" if phase else task.task for task in tasks]
    numbers = [bases[: i + 1].count(base) for i, base in enumerate(bases)]
    return [f"{base}.json" if n == 1 else f"{base}-{n}.json" for base, n in zip(bases, numbers, strict=True)]

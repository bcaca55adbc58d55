"""What tasks will need, looked at before a model is loaded or trained: a wrong path stops the work now and not after hours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from smoe_cli.eval.drawing.captions import captions_of, drawn_source
from smoe_cli.eval.drawing.clip_score import open_clip
from smoe_cli.eval.drawing.extractors import open_extractor
from smoe_cli.eval.drawing.image_distance import check_torchmetrics
from smoe_cli.eval.drawing.judge import Judge
from smoe_cli.eval.ocr.data import load_ocr
from smoe_cli.eval.ocr.run import rendered_source
from smoe_cli.eval.text.bits_data import load_texts
from smoe_cli.eval.text.mmlu_data import load_mmlu
from smoe_cli.eval.text.multiple_choice import load_choices
from smoe_cli.recipe.measures import (
    BitsPerByte,
    ChoiceTask,
    ClipScore,
    DrawingTask,
    EvalTask,
    ImageDistance,
    Mmlu,
    OcrBench,
    RenderedOcr,
)
from smoe_cli.recipe.models import Recipe


def check_tasks(tasks: Iterable[EvalTask], recipe: Recipe | None) -> None:
    """Open what tasks read: data, packages, folders of other models. recipe: of the model; None of a plain one.

    Raises UserError naming what is missing or of no use.
    """
    for task in tasks:
        if isinstance(task, Mmlu):
            load_mmlu(task.data, task.shots)
        elif isinstance(task, ChoiceTask):
            load_choices(task)
        elif isinstance(task, OcrBench):
            for question in load_ocr(Path(task.data)).questions[: task.limit]:
                question.decode()
        elif isinstance(task, RenderedOcr):
            rendered_source(recipe, task.source)
        elif isinstance(task, BitsPerByte):
            load_texts(task, recipe.data.sources if recipe else {})
        elif isinstance(task, DrawingTask):
            _check_judges(task, recipe)


def _check_judges(task: DrawingTask, recipe: Recipe | None) -> None:
    cpu = torch.device("cpu")
    if isinstance(task, ImageDistance):
        check_torchmetrics(task.task)
        open_extractor(task.extractor, cpu)
    elif isinstance(task, ClipScore):
        open_clip(Path(task.clip).expanduser(), cpu)
    else:
        drawn_source(recipe, task.source, task.task)
        Judge()
        return
    for _ in captions_of(task, task.task, recipe).walk(1):
        pass  # only to see whether each can be read

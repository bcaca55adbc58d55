"""Tasks that show an image and ask what is written in it: OCRBench, and the held-out strings of a recipe."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.eval.models import Asking
from smoe_cli.eval.ocr.data import load_ocr
from smoe_cli.eval.ocr.ocrbench import evaluate_ocr
from smoe_cli.eval.ocr.rendered import write_rendered
from smoe_cli.eval.results import Result
from smoe_cli.recipe.measures import OcrBench, RenderedOcr
from smoe_cli.recipe.models import Recipe, RenderedText


def run_ocr(asking: Asking, task: OcrBench) -> Result:
    """OCRBench, or questions in its columns."""
    return _ask(asking, task.task, task)


def run_rendered(asking: Asking, task: RenderedOcr) -> Result:
    """The held-out strings of a source of the model's recipe."""
    asking.opened.reader(task.task)
    source = rendered_source(asking.opened.recipe, task.source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asking.out_dir or Path(temporary)) / "data" / task.source
        file = write_rendered(source, task.source, task.seed, task.questions, folder)
        result = _ask(asking, task.task, OcrBench(task="ocrbench", data=str(file)))
    drawn = {"source": task.source, "limit": task.questions, "seed": task.seed}
    return dataclasses.replace(result, protocol={**result.protocol, **drawn})


def rendered_source(recipe: Recipe | None, name: str) -> RenderedText:
    """The source of this name. Raises UserError unless it is a `rendered-text` source with task `mmu`."""
    if recipe is None:
        raise UserError("rendered-ocr: a plain model of transformers has no recipe with strings to draw")
    source = recipe.data.sources.get(name)
    if isinstance(source, RenderedText) and source.task == "mmu":
        return source
    known = [name for name, one in recipe.data.sources.items() if isinstance(one, RenderedText) and one.task == "mmu"]
    raise UserError(
        f"rendered-ocr: `{name}` is not a `rendered-text` source with task `mmu` of this recipe",
        f"sources that can be used: {', '.join(known) or 'none'}",
    )


def _ask(asking: Asking, name: str, how: OcrBench) -> Result:
    reader = asking.opened.reader(name)
    return evaluate_ocr(reader, load_ocr(Path(how.data)), name, how, asking.batch_size, asking.tell)

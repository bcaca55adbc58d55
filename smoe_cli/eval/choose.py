"""Which tasks `smoe eval` runs: its options and the model's recipe → tasks of the recipe language."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from smoe_cli.errors import UserError
from smoe_cli.recipe.measures import ArcEasy, BitsPerByte, EvalTask, Mmlu, OcrBench, RenderedOcr
from smoe_cli.recipe.models import PythonDocs, Recipe, RenderedText

TASKS = ("mmlu", "arc-easy", "ocrbench", "rendered-ocr", "bits-per-byte")
TEXT_TASKS = ("mmlu", "arc-easy", "bits-per-byte")
"""Tasks that a plain language model can do."""
HUB = {"mmlu": "cais/mmlu", "arc-easy": "allenai/ai2_arc", "ocrbench": "echo840/OCRBench"}
"""Tasks that need data, and where the hub has them."""
READING = (*HUB, "bits-per-byte")
"""Tasks that read data, `bits-per-byte` if it is given any."""


def parse_tasks(text: str) -> list[str]:
    """`mmlu,ocrbench` → names, each once. Raises UserError with the nearest name on a typo."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--tasks is empty", f"tasks: {', '.join(TASKS)}")
    for name in names:
        if name not in TASKS:
            raise UserError(f"--tasks: no task `{name}`", _nearest(name, TASKS))
    return list(dict.fromkeys(names))


def parse_data(values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """`--data` values → {task: path}. A bare path goes to the only task that reads data. Raises UserError on what fits none."""
    reading = [name for name in names if name in READING]
    found: dict[str, str] = {}
    for value in values:
        task, equals, path = value.partition("=")
        if not equals or (task not in TASKS and Path(value).exists()):
            if len(reading) != 1:
                problem = "for which task?" if reading else "none of the tasks reads data"
                raise UserError(f"--data {value}: {problem}", " ".join(f"--data {name}=PATH" for name in reading) or None)
            task, path = reading[0], value
        elif task not in TASKS:
            raise UserError(f"--data: no task `{task}`", _nearest(task, READING))
        if not path.strip():
            raise UserError(f"--data {value}: the path is empty", f"pass --data {task}=PATH")
        if task not in READING:
            raise UserError(f"--data: task `{task}` reads no data: it draws what the model's recipe says")
        if task not in reading:
            raise UserError(f"--data: task `{task}` is not among those asked for ({', '.join(names)})")
        if task in found:
            raise UserError(f"--data: given twice for task `{task}`")
        found[task] = str(Path(path).expanduser())
    return found


def check(names: Sequence[str], data: Sequence[str], shots: int | None) -> None:
    """Raise UserError on options that are missing or would have no effect, before anything is loaded."""
    given = parse_data(data, names)
    for name in names:
        if name in HUB and name not in given:
            raise UserError(f"task `{name}` needs --data", f"pass --data {name}=PATH, a local copy of the hub's {HUB[name]}")
    if shots is not None and "mmlu" not in names:
        raise UserError("--shots has no effect without task `mmlu`")


def choose(
    recipe: Recipe, names: Sequence[str] | None, data: Sequence[str], shots: int | None, limit: int | None
) -> list[EvalTask]:
    """The named tasks, or those of the recipe, with the options on top. Raises UserError where they do not fit together."""
    if names is None:
        tasks = list(recipe.evaluation.tasks)
        if not tasks:
            raise UserError(f"recipe `{recipe.name}` has no evaluation tasks", f"pass --tasks, of: {', '.join(TASKS)}")
        own = list(dict.fromkeys(task.task for task in tasks))
        if shots is not None and "mmlu" not in own:
            raise UserError("--shots has no effect without task `mmlu`")
        given = parse_data(data, own)
    else:
        check(names, data, shots)
        given = parse_data(data, names)
        tasks = [_new(name, recipe, given) for name in names]
    return [_adjusted(task, given, shots, limit) for task in tasks]


def choose_text(names: Sequence[str], data: Sequence[str], shots: int | None, limit: int | None) -> list[EvalTask]:
    """The named tasks for a plain language model. Raises UserError on those that show it images."""
    if other := [name for name in names if name not in TEXT_TASKS]:
        raise UserError(
            f"task `{other[0]}` shows images, which a plain language model does not see", f"pass --tasks {','.join(TEXT_TASKS)}"
        )
    given = parse_data(data, names)
    if "bits-per-byte" in names and "bits-per-byte" not in given:
        raise UserError("a plain language model has no recipe with held-out texts", "pass --data bits-per-byte=PATH")
    return [_adjusted(_text(name, given), given, shots, limit) for name in names]


def _text(name: str, given: dict[str, str]) -> EvalTask:
    if name == "bits-per-byte":
        return BitsPerByte(task="bits-per-byte", data=given[name])
    return Mmlu(task="mmlu", data=given[name]) if name == "mmlu" else ArcEasy(task="arc-easy", data=given[name])


def _new(name: str, recipe: Recipe, given: dict[str, str]) -> EvalTask:
    if name == "bits-per-byte" and name not in given:
        return _bits(recipe)
    if name in TEXT_TASKS:
        return _text(name, given)
    if name == "ocrbench":
        return OcrBench(task="ocrbench", data=given[name])
    for task in recipe.evaluation.tasks:
        if isinstance(task, RenderedOcr):
            return task
    for source, spec in recipe.data.sources.items():
        if isinstance(spec, RenderedText) and spec.task == "mmu":
            return RenderedOcr(task="rendered-ocr", source=source)
    raise UserError(f"rendered-ocr: recipe `{recipe.name}` has no `rendered-text` source with task `mmu`")


def _bits(recipe: Recipe) -> BitsPerByte:
    for task in recipe.evaluation.tasks:
        if isinstance(task, BitsPerByte):
            return task
    for source, spec in recipe.data.sources.items():
        if isinstance(spec, PythonDocs) and spec.split == "train":
            return BitsPerByte(task="bits-per-byte", source=source)
    raise UserError(
        f"bits-per-byte: recipe `{recipe.name}` has no `python-docs` source with `split: train`",
        "pass --data bits-per-byte=PATH, a file with a column `text`",
    )


def _adjusted(task: EvalTask, given: dict[str, str], shots: int | None, limit: int | None) -> EvalTask:
    update: dict[str, object] = {}
    if task.task in given:
        update["data"] = given[task.task]
        if isinstance(task, ArcEasy) and Path(given[task.task]).is_file():
            update["split"] = None  # chooses within a folder
        if isinstance(task, BitsPerByte):
            update["source"] = None
    if isinstance(task, Mmlu) and shots is not None:
        update["shots"] = shots
    if limit is not None:
        update |= {"questions": min(limit, task.questions)} if isinstance(task, RenderedOcr) else {"limit": limit}
    return task.model_copy(update=update)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"tasks: {', '.join(known)}"

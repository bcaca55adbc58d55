"""Tasks of lm-evaluation-harness: found by name, from the hub, from YAML files of one's own, or MMLU from local files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.harness.noise import quiet
from smoe_cli.eval.text.mmlu_data import load_mmlu
from smoe_cli.eval.text.mmlu_subjects import CATEGORY
from smoe_cli.eval.text.packages import PACKAGES
from smoe_cli.recipe.words import nearest

SEED = 1234
"""The harness's own: examples in the prompt are drawn with it, and answers, where a task draws them."""

MMLU = {"mmlu", *(f"mmlu_{name}" for pair in CATEGORY.items() for name in pair)}
"""What can be asked of local files of MMLU: all of it, a category, a subject."""


@contextmanager
def harness_tasks(names: Sequence[str] | None, data: Sequence[str] = (), shots: int | None = None) -> Iterator[dict[str, Any]]:
    """{name: what the harness's `TaskManager.load` gives: tasks with their data, and groups of them}; usable within the block.

    data: `[NAME=]PATH`, a folder of the harness's YAML files, which may define any of the names; or for MMLU its questions, in
    any form that task `mmlu` reads. Raises UserError when the harness is not installed, on a name that it lacks, and on data
    that are missing or cannot be reached.
    """
    if find_spec("lm_eval") is None:
        raise UserError("--engine lm-eval: lm-evaluation-harness is not installed", "pip install 'smoe[eval]'")
    if not names:
        raise UserError("--engine lm-eval: which tasks?", "pass --tasks, such as mmlu,piqa; `lm-eval ls tasks` lists them")
    with TemporaryDirectory() as scratch:
        with quiet():
            manager = _manager(names, _parse_data(data, names), shots, Path(scratch))
            found = {name: _load(manager, name) for name in names}
        yield found


def _parse_data(values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """A bare path goes to the only task, or is a folder of task files for all of them."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or (name not in names and Path(value).exists()):
            if len(names) > 1 and not _task_files(value):
                raise UserError(f"--data {value}: for which task?", " ".join(f"--data {one}=PATH" for one in names))
            name, path = names[0], value
        if not path.strip():
            raise UserError(f"--data {value}: the path is empty", f"pass --data {name or names[0]}=PATH")
        if name not in names:
            raise UserError(f"--data: task `{name}` is not among those asked for ({', '.join(names)})")
        if name in found:
            raise UserError(f"--data: given twice for task `{name}`")
        found[name] = path
    return found


def _task_files(path: str) -> bool:
    return any(Path(path).expanduser().rglob("*.yaml"))


def _manager(names: Sequence[str], data: Mapping[str, str], shots: int | None, scratch: Path) -> Any:
    """The harness's `TaskManager`, which knows all of `names`. MMLU's questions are written to `scratch`."""
    from lm_eval.tasks import TaskManager

    folders, only_mmlu = [], True
    for name, path in data.items():
        folder = Path(path).expanduser()
        if _task_files(path):
            folders.append(folder)
            only_mmlu = False
        elif name in MMLU:
            _write_mmlu(path, shots or 0, scratch / name)
            folders.append(scratch / name)
        else:
            _refuse(name, path, folder)
    own = TaskManager(include_path=folders, include_defaults=False)
    complete = own.all_tasks if only_mmlu else own.all_subtasks  # a group of one's own may name tasks of the harness
    if set(names) <= set(complete):
        return own
    manager = TaskManager(include_path=folders)  # takes seconds: it reads some ten thousand files
    for name in names:
        if name not in manager.task_index:
            guess = nearest(name, manager.all_tasks)
            raise UserError(
                f"lm-evaluation-harness has no task `{name}`",
                f"did you mean `{guess}`?" if guess else "`lm-eval ls tasks` lists them",
            )
    return manager


def _refuse(name: str, path: str, folder: Path) -> None:
    if path in PACKAGES or folder.exists():
        raise UserError(
            f"--data {name}={path}: no YAML files of lm-evaluation-harness",
            "name a folder of its task files; only MMLU's questions themselves can be given",
        )
    raise UserError(f"--data {name}={path}: no such folder")


def _write_mmlu(source: str, shots: int, folder: Path) -> None:
    """MMLU's questions as the harness's own tasks, whose data are JSON lines in `folder`. Raises as `load_mmlu` does."""
    import lm_eval.tasks
    import yaml

    theirs = Path(lm_eval.tasks.__file__).parent / "mmlu" / "default"
    folder.mkdir(parents=True)

    def write(name: str, keys: Mapping[str, Any]) -> None:
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump({"include": str(theirs / f"{name}.yaml"), **keys}), encoding="utf-8"
        )

    subjects = load_mmlu(source, shots).subjects
    for subject in subjects:
        files = {}
        for split, questions in (("dev", subject.dev), ("test", subject.test)):
            if questions:
                files[split] = str(folder / f"{subject.name}-{split}.jsonl")
                rows = ({"question": one.question, "choices": list(one.choices), "answer": one.answer} for one in questions)
                Path(files[split]).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        write(
            f"mmlu_{subject.name}",
            {
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
                "fewshot_split": "dev" if "dev" in files else "test",  # the harness wants one, without shots too
            },
        )
    categories = sorted({CATEGORY[subject.name] for subject in subjects})
    for category in categories:
        write(f"_mmlu_{category}", {})
    write("_mmlu", {"task": [f"mmlu_{category}" for category in categories]})


def _load(manager: Any, name: str) -> Any:
    import evaluate.config
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError

    evaluate.config.HF_EVALUATE_OFFLINE = True  # it would download a metric's code and run it
    seed()  # some tasks shuffle choices as they are loaded
    try:
        return manager.load([name])
    except ImportError as error:
        raise UserError(
            f"task `{name}` of lm-evaluation-harness needs more: {_first_line(error)}",
            "the extras of lm-eval are named after such tasks: pip install 'lm-eval[math]', for one",
        ) from error
    except OSError as error:
        if "module script" in str(error):  # of the package `evaluate`
            raise UserError(f"task `{name}` of lm-evaluation-harness would fetch code from the hub and run it") from error
        raise UserError(
            f"task `{name}` of lm-evaluation-harness: its data cannot be read: {_first_line(error)}",
            "it reads them from the Hugging Face hub: go online, once, or pass --data with a folder of task files that name "
            "local data",
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, DatasetsError, TemplateError) as error:
        # a mistake in its file, or in its data
        raise UserError(f"task `{name}` of lm-evaluation-harness: {type(error).__name__}: {_first_line(error)}") from error


def seed() -> None:
    """Seed all that the harness seeds, with its numbers."""
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(SEED)
    torch.manual_seed(SEED)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

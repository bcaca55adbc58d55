"""A run directory as plain data. Whatever is missing, torn or damaged is noted, never fatal: a killed run has a report too."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from smoe_cli.errors import UserError
from smoe_cli.report.evaluations import Row, read_evaluations
from smoe_cli.report.lookup import get, mapping, mappings
from smoe_cli.report.words import whole

MARKS = ("recipe.resolved.yaml", "plan.json", "metrics.jsonl")
"""A directory is a run when it holds one of these."""


@dataclass(frozen=True)
class Span:
    """A phase on the axis of steps."""

    name: str
    start: int
    steps: int


@dataclass(frozen=True)
class Grid:
    """One image of drawn samples. `file` need not exist."""

    step: int
    phase: str
    file: Path
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """Everything the report shows, as read. Dictionaries are empty and lists are empty where a file is missing."""

    path: Path
    name: str
    text: str = ""
    """The recipe as written."""
    resolved: str = ""
    """The recipe as resolved, YAML."""
    recipe: Row = field(default_factory=dict)
    plan: Row = field(default_factory=dict)
    environment: Row = field(default_factory=dict)
    data: Row = field(default_factory=dict)
    metrics: tuple[Row, ...] = ()
    """By ascending step; of a stretch that was run twice (resume) the later one."""
    timings: tuple[Row, ...] = ()
    routing: tuple[Row, ...] = ()
    grids: tuple[Grid, ...] = ()
    evaluations: tuple[Row, ...] = ()
    """Results in the format of `smoe_cli.eval.results`, by ascending step, then time; those without a step (measured later, on
    the final model) last."""
    phases: tuple[Span, ...] = ()
    total_steps: int = 0
    """Planned steps, or those seen where there is no plan."""
    last_step: int = 0
    """The last step that left a trace."""
    backbone: Row = field(default_factory=dict)
    """What the model's config.json says of the checkpoint that it came from; empty from scratch."""
    finished: bool = False
    """Whether the final model was written."""
    notes: tuple[str, ...] = ()
    """What is missing or damaged, a sentence each."""

    def phase_name(self, value: object) -> str:
        """A row's `phase`, which is a name or an index, as a name."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.phases):
            return self.phases[value].name
        return "" if value is None else str(value)


def load_run(path: Path) -> Run:
    """Reads the run directory `path`. Raises UserError when it is not one."""
    _check(path)
    notes: list[str] = []
    text = _text(path / "recipe.yaml", notes)
    resolved = _text(path / "recipe.resolved.yaml", notes)
    recipe = _yaml(path / "recipe.resolved.yaml", resolved, notes) or _yaml(path / "recipe.yaml", text, notes)
    plan = _object(path / "plan.json", notes)
    metrics = _rows(path / "metrics.jsonl", notes)
    routing = _rows(path / "routing.jsonl", notes)
    evaluations = read_evaluations(path / "eval", notes, _object)
    grids = tuple(_grid(path, row) for row in _rows(path / "samples.jsonl", notes, required=_draws(recipe)))
    seen = [row["step"] for row in (*metrics, *routing, *evaluations) if _is_step(row.get("step"))]
    last_step = max([*seen, *(grid.step for grid in grids)], default=0)
    phases = _phases(plan, recipe)
    planned = max((span.start + span.steps for span in phases), default=0)
    return Run(
        path=path,
        name=str(recipe.get("name") or path.name),
        text=text,
        resolved=resolved,
        recipe=recipe,
        plan=plan,
        environment=_object(path / "environment.json", notes),
        data=_object(path / "data.json", notes),
        metrics=metrics,
        timings=_rows(path / "timings.jsonl", notes),
        routing=routing,
        grids=grids,
        evaluations=evaluations,
        phases=phases,
        total_steps=max(planned, last_step),
        last_step=last_step,
        backbone=_backbone(path),
        finished=(path / "model").is_dir(),
        notes=tuple(notes),
    )


def _check(path: Path) -> None:
    if any((path / mark).is_file() for mark in MARKS):
        return
    if path.is_dir():
        runs = sorted(child.name for child in path.iterdir() if any((child / mark).is_file() for mark in MARKS))
        listed = ", ".join(runs[:5]) + (", …" if len(runs) > 5 else "")
        help = (
            f"it holds runs; name one of them: {listed}"
            if runs
            else f"a run directory holds one of {', '.join(MARKS)}; `smoe train` writes it"
        )
        raise UserError(f"{path}: not a run directory", help)
    if path.exists():
        raise UserError(f"{path}: a file, not a run directory", f"try `smoe report {path.parent}`")
    siblings = [child.name for child in path.parent.iterdir() if child.is_dir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    help = f"did you mean {path.parent / close[0]}?" if close else "runs are written to runs/<name> by `smoe train`"
    raise UserError(f"{path}: no such directory", help)


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        notes.append(f"{path.name} is missing.")
    except OSError as error:
        notes.append(f"{path.name} cannot be read ({error.strerror}).")
    return ""


def _yaml(path: Path, text: str, notes: list[str]) -> Row:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        notes.append(f"{path.name} is not valid YAML.")
        return {}
    return value if isinstance(value, dict) else {}


def _object(path: Path, notes: list[str]) -> Row:
    noted = len(notes)
    text = _text(path, notes)
    if len(notes) > noted:
        return {}
    try:
        value = _json(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    notes.append(f"{path.name} is damaged and was left out.")
    return {}


def _is_step(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**12  # True is an int too


def _json(text: str) -> Any:
    """NaN and infinities, which Python writes and browsers refuse, become None: no value."""
    return json.loads(text, parse_constant=lambda _: None)


def _rows(path: Path, notes: list[str], required: bool = True) -> tuple[Row, ...]:
    """The lines of a .jsonl file. A line whose step is not above the one before rewinds: the run was resumed there."""
    lines = _text(path, notes if required else []).split("\n")
    rows: list[Row] = []
    damaged: list[int] = []
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = _json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not _is_step(row.get("step")):
            damaged.append(index)
            continue
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    if damaged == [len(lines) - 1]:
        notes.append(f"{path.name}: the last line is torn and was left out (the run was stopped while writing it).")
    elif damaged:
        notes.append(f"{path.name}: {len(damaged)} unreadable line(s) left out, the first is line {damaged[0] + 1}.")
    return tuple(rows)


def _grid(run: Path, row: Row) -> Grid:
    """`file` is relative to the run or to its samples/; it may not lead out of the run."""
    name = Path(str(row.get("file") or f"step-{row['step']:08d}.png")).name
    prompts = row.get("prompts")
    phase = row.get("phase")
    return Grid(
        step=row["step"],
        phase="" if phase is None else str(phase),
        file=run / "samples" / name,
        prompts=tuple(str(prompt) for prompt in prompts) if isinstance(prompts, list) else (),
    )


def _backbone(path: Path) -> Row:
    """From the final model, else from the last checkpoint that has one; nothing is noted, for neither need exist yet."""
    folders = [*sorted((path / "checkpoints").glob("step-*")), path / "model"]
    configs = [_object(folder / "config.json", []) for folder in folders]
    return next((found for config in reversed(configs) if (found := mapping(config, "source", "backbone"))), {})


def _draws(recipe: Row) -> bool:
    """Whether the recipe asks for sample grids, so that a run without them lacks something."""
    return bool(get(recipe, "training", "sampling", "prompts"))


def _phases(plan: Row, recipe: Row) -> tuple[Span, ...]:
    """From the plan, else from the recipe."""
    spans: list[Span] = []
    for source in (plan, recipe):
        for phase in mappings(source, "phases"):
            steps = whole(phase.get("steps"))
            if steps and _is_step(steps):
                start = spans[-1].start + spans[-1].steps if spans else 0
                spans.append(Span(str(phase.get("name") or f"phase {len(spans) + 1}"), start, steps))
        if spans:
            break
    return tuple(spans)

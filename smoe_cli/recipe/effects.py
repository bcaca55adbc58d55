"""Keys that can be written but that nothing reads, given the rest of the recipe.

Written, such a key is an error; defaulted, it is left out of the resolved recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from smoe_cli.recipe.measures import BitsPerByte
from smoe_cli.recipe.models import Dataset, Emoji, Model, Phase, PythonDocs, Recipe, RenderedText, Shared, Source
from smoe_cli.recipe.nodes import MODALITIES, Modality, attributes_of, fields_of
from smoe_cli.recipe.tree import Key, Path

_COLUMNS = {"lm": ("text",), "mmu": ("image", "question", "answer"), "t2i": ("image", "caption")}
_FILES = (".parquet", ".jsonl", ".json", ".csv")

INTERFACE = {"vit": "vision", "vae": "latents"}
"""The part of the model that a modality other than text needs."""


def present(model: Model) -> tuple[Modality, ...]:
    """Modalities that the model has tokens of."""
    return tuple(m for m in MODALITIES if m == "text" or getattr(model, INTERFACE[m]) is not None)


def produced(recipe: Recipe, phase: Phase) -> set[str]:
    """Modalities that the sources of a phase have tokens of."""
    tasks = {recipe.data.sources[name].task for name in phase.mixture if name in recipe.data.sources}
    return {"text"} | ({"vit"} if "mmu" in tasks else set()) | ({"vae"} if "t2i" in tasks else set())


def shared_modalities(model: Model) -> tuple[Modality, ...]:
    """Modalities whose tokens pass shared experts, if the backbone has any; () where the recipe leaves them out."""
    if model.shared == "none":
        return ()
    return model.shared.modalities if model.shared is not None else MODALITIES


def by_activation(model: Model) -> list[Path]:
    """Paths of what goes by how often experts are used, and hence by the profile."""
    rules = ("most-activated", "least-activated")
    paths: list[Path] = [
        ("model", "groups", index, "select")
        for index, group in enumerate(model.groups)
        if group.mount is None and group.select in rules
    ]
    if isinstance(model.shared, Shared) and model.shared.promote is not None:
        paths.append(("model", "shared", "promote"))
    return paths


def idle(recipe: Recipe) -> dict[Path, str]:
    """Paths of keys without effect, and why; whether they are written or not."""
    return dict(_idle(recipe))


def written(recipe: Recipe, path: Path) -> bool:
    """Whether the recipe gives this key, rather than leaving it to its default."""
    holder: Any = recipe
    for step in path[:-1]:
        holder = step_into(holder, step)
    if not isinstance(holder, BaseModel):
        return True
    return attributes_of(type(holder))[str(path[-1])] in holder.model_fields_set


def step_into(value: Any, step: Key) -> Any:
    """The value one step down a path, through models, dicts and tuples."""
    return getattr(value, attributes_of(type(value))[str(step)]) if isinstance(value, BaseModel) else value[step]


def _idle(recipe: Recipe) -> Iterator[tuple[Path, str]]:
    model, training = recipe.model, recipe.training
    here = present(model)
    yield from _backbone(model)
    if here == ("text",):
        yield ("model", "image_positions"), "the model has neither `vision` nor `latents`"
    if "vit" not in here:
        yield ("model", "image_attention"), "the model has no `vision`"
    if isinstance(model.shared, Shared) and (absent := [m for m in model.shared.modalities if m not in here]):
        parts = " and ".join(f"`{INTERFACE[m]}`, so no `{m}` tokens" for m in absent)
        yield ("model", "shared", "modalities"), f"the model has no {parts}"
    for name, source in recipe.data.sources.items():
        for key, why in _source(source):
            yield ("data", "sources", name, *key), why
    for index, phase in enumerate(recipe.phases):
        if any(name not in recipe.data.sources for name in phase.mixture):
            continue  # an error of its own, and what is missing cannot be known
        tasks = {recipe.data.sources[name].task for name in phase.mixture}
        if "t2i" not in tasks:
            yield ("phases", index, "loss", "flow"), "no source of this phase has task `t2i`"
        if tasks == {"t2i"}:
            yield (
                ("phases", index, "loss", "text"),
                "all sources of this phase have task `t2i`, whose captions are not predicted",
            )
    for index, task in enumerate(recipe.evaluation.tasks):
        if isinstance(task, BitsPerByte) and task.data is None:
            yield ("evaluation", "tasks", index, "column"), "it names a column of `data`, which is not given"
    if not recipe.evaluation.tasks:
        for setting in ("during", "batch_size"):
            yield ("evaluation", setting), "there are no `tasks` to measure"
    if model.latents is None:
        yield ("training", "sampling"), "images are drawn by models with `latents`"
    elif not training.sampling.prompts:
        yield ("training", "sampling", "every"), "there are no `prompts` to draw"


def _backbone(model: Model) -> Iterator[tuple[Path, str]]:
    backbone, shared = model.backbone, model.shared
    given = [way for way in fields_of(type(backbone)) if getattr(backbone, way) is not None]
    for way in fields_of(type(backbone)):
        if given and way not in given:
            yield ("model", "backbone", way), f"the backbone comes from `{given[0]}`"
    if given and backbone.pretrained is None:
        yield ("model", "profile"), "a profile says how a checkpoint's experts are used, and those of this backbone are new"
    elif not by_activation(model) and len(model.groups) == 1:  # of any other split the plan says how much it keeps
        yield ("model", "profile"), "the only group has every expert, and nothing is promoted"
    for index, group in enumerate(model.groups):
        if group.mount is not None:
            yield ("model", "groups", index, "select"), f"the experts are copied from `{group.mount.group}`"
    if not isinstance(shared, Shared):
        return
    if backbone.scratch is None:
        brings = "`upcycle.shared` says how many copies" if backbone.upcycle else "the checkpoint brings its own shared experts"
        for key in ("count", "intermediate_size"):
            yield ("model", "shared", key), brings
    elif shared.promote is None:
        yield ("model", "shared", "promote"), "the backbone has shared experts of its own"
    if shared.promote is None and backbone.upcycle is not None:
        yield ("model", "shared", "promote"), "`upcycle.shared` says how many experts are always on"


def _source(source: Source) -> Iterator[tuple[Path, str]]:
    if source.task != "t2i":
        yield ("caption_dropout",), f"task `{source.task}` has no captions; `t2i` has"
    if source.task != "mmu":
        yield ("question",), f"task `{source.task}` asks no questions; `mmu` does"
    if isinstance(source, RenderedText | Emoji | PythonDocs):
        yield ("on_bad_row",), f"kind `{source.kind}` has no broken rows"
    if isinstance(source, RenderedText) and source.task == "mmu":
        yield ("captions",), "task `mmu` has no captions; `t2i` has"
    if isinstance(source, Dataset):
        yield from _dataset(source)


def _dataset(source: Dataset) -> Iterator[tuple[Path, str]]:
    if source.path.endswith(_FILES):
        yield ("config",), "`path` names files; configurations belong to datasets of the hub"
    read = _COLUMNS[source.task]
    for column in fields_of(type(source.columns)):
        if column not in read:
            yield ("columns", column), f"task `{source.task}` reads {' and '.join(f'`{name}`' for name in read)}"
        elif column == "question" and source.question is not None:
            yield ("columns", "question"), "`question` is asked of every image instead"

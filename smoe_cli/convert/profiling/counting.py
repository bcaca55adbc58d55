"""Profiles: how often a pretrained model uses each of its experts, counted over data, continued and added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_cli.errors import UserError
from smoe_cli.plan.profile import Profile, add, read_profile

if TYPE_CHECKING:
    from smoe_cli.convert.profiling.data import Documents
    from smoe_cli.convert.profiling.run import Progress

MAX_TOKENS = 2048


@dataclass(frozen=True)
class Settings:
    """How a model is profiled. limit: first rows of each data source only. dtype: of the computation; `auto`: the checkpoint's.
    max_tokens: longer documents lose their end. image_size: [height, width]; None: the family's own choice."""

    batch_size: int = 8
    limit: int | None = None
    dtype: str = "auto"
    max_tokens: int = MAX_TOKENS
    image_size: tuple[int, int] | None = None


def profile_model(model: str, data: Sequence[str], out: Path, settings: Settings, progress: Progress | None = None) -> Profile:
    """Profile a model and write `out`, going on where it stands.

    model: a plain checkpoint (folder or hub id), or a run directory or model folder of ours. Raises UserError, and Stopped when
    interrupted.
    """
    from smoe_cli.convert.profiling.data import key_of, open_data
    from smoe_cli.convert.profiling.run import begin, run

    counter = _open(model, settings)
    documents: dict[str, Documents] = {}
    for argument in data:
        for source in open_data(argument, settings.limit, counter.draws):
            counter.check(source)
            key = key_of(source, f"{counter.max_tokens} {settings.image_size if source.task != 'lm' else None}")
            if key in documents:
                raise UserError(f"{source.name} and {documents[key].name} hold the same data", "it would be counted twice")
            documents[key] = source
    if not documents:
        raise UserError(f"{', '.join(data)}: no data source that {model} can read")
    profile = begin(out, counter.empty(), documents, settings.limit)
    if profile.finished:
        return profile
    return run(counter.load(), documents, profile, out, settings.batch_size, progress)


def merge(files: Sequence[Path]) -> Profile:
    """The profile over the data of all files. Raises UserError naming the files and the field in which they differ."""
    profiles = [read_profile(file) for file in files]
    for i, second in enumerate(profiles):
        for j, first in enumerate(profiles[:i]):
            try:
                add(first, second)
            except ValueError as error:
                raise UserError(f"{files[j]} and {files[i]} cannot be added: {error}") from None
    return reduce(add, profiles)


def _open(model: str, settings: Settings) -> Any:
    from smoe_cli.convert.profiling.ours import OwnCounter, is_ours
    from smoe_cli.convert.profiling.plain import PlainCounter

    return OwnCounter(Path(model), settings) if is_ours(Path(model)) else PlainCounter(model, settings)

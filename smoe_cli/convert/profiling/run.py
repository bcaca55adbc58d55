"""A profile from start to end: batch after batch, saved every few seconds, continued where a file stands."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch

from smoe_cli.convert.profiling.data import Documents
from smoe_cli.convert.profiling.tally import Tally
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.targets import writing
from smoe_cli.files import write_atomically
from smoe_cli.plan.profile import SAME, Counted, Profile, read_profile

SECONDS = 5.0
"""Between two saves. A process that is killed loses no more than this and the batch it was in."""

Progress = Callable[[str, int, int], None]
"""Called with (data source, rows read, rows in all)."""


class Counter(Protocol):
    """A model that counts."""

    def tokens(self, sample: Sample, position: int) -> Any:
        """The document of a sample, which lies at a position of its data source. Raises BadRow."""

    def count(self, documents: Sequence[Any]) -> Tally:
        """The choices of its routers on a batch of documents."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM: the batch was finished and the profile saved. `signal` is its number."""

    def __init__(self, number: int, profile: Profile):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal, self.profile = number, profile


def begin(out: Path, empty: Profile, documents: dict[str, Documents], limit: int | None) -> Profile:
    """The profile to go on with: the one in `out`, or `empty`, with every data source entered.

    documents: {key: data source}. Raises UserError when `out` holds a profile of another model or of other data.
    """
    found = read_profile(out) if out.exists() else empty
    for name in SAME:
        if getattr(found, name) != getattr(empty, name):
            raise UserError(
                f"{out}: counts another model or run: `{name}` is {getattr(found, name)!r}, here {getattr(empty, name)!r}",
                "choose another --out",
            )
    if other := sorted(counted.name for key, counted in found.data.items() if key not in documents):
        raise UserError(
            f"{out}: also counts {', '.join(other)}, as it was or was read then, which this command does not",
            "give the same --data as before, or choose another --out and add the two with --merge",
        )
    data = {}
    for key, source in documents.items():
        total = source.rows if limit is None else min(limit, source.rows)
        before = found.data.get(key, Counted(source.name, 0, total))
        if before.rows > total:
            raise UserError(
                f"{out}: {before.rows} rows of {source.name} are counted already, more than --limit {limit}",
                "choose another --out, or a higher limit",
            )
        data[key] = dataclasses.replace(before, name=source.name, total=total)
    return dataclasses.replace(found, data=data)


def run(
    counter: Counter,
    documents: dict[str, Documents],
    profile: Profile,
    out: Path,
    batch_size: int,
    progress: Progress | None = None,
    seconds: float = SECONDS,
) -> Profile:
    """Count what is left of every data source and write `out`, at the end and every few seconds.

    Batches are consecutive rows, saved whole: a run that was stopped and goes on makes the same batches, hence the same
    numbers, as one that was not. Raises Stopped after a signal, UserError on a bad row that may not be skipped,
    Failure when memory runs out.
    """
    tally, data = Tally.of(profile), dict(profile.data)
    bad: dict[str, str] = {}

    def save() -> Profile:
        tokens, counts, mass = tally.tables()
        now = dataclasses.replace(profile, tokens=tokens, counts=counts, mass=mass, data=dict(sorted(data.items())))
        write(out, now)
        return now

    saved = time.monotonic()
    with _signals() as stop:
        for key, source in documents.items():
            while (counted := data[key]).rows < counted.total:
                if progress:
                    progress(source.name, counted.rows, counted.total)
                end = min(counted.rows + batch_size, counted.total)
                batch = list(_documents(counter, source, range(counted.rows, end), bad))
                if batch:
                    try:
                        tally.add(counter.count(batch))
                    except torch.OutOfMemoryError as error:
                        save()
                        help = "what was counted is saved; go on with a lower --batch-size"
                        raise Failure(f"out of memory: {str(error).splitlines()[0]}", help) from None
                skipped = counted.skipped + end - counted.rows - len(batch)
                data[key] = dataclasses.replace(counted, rows=end, skipped=skipped)
                if stop:
                    raise Stopped(stop[0], save())
                if time.monotonic() - saved > seconds:
                    save()
                    saved = time.monotonic()
            if counted.skipped == counted.total:
                reason = f": {bad[source.name]}" if source.name in bad else ""
                raise UserError(f"{source.name}: none of its {counted.total} rows could be used{reason}")
            if progress:
                progress(source.name, counted.rows, counted.total)
    return save()


def write(out: Path, profile: Profile) -> None:
    """Write a profile atomically. Raises UserError or Failure when it cannot be written."""
    with writing(out):
        write_atomically(out, json.dumps(profile.to_dict(), ensure_ascii=False) + "\n")


def _documents(counter: Counter, source: Documents, rows: range, bad: dict[str, str]) -> Iterator[Any]:
    """Documents of the rows that can be used. bad: the first complaint about each source is left here."""
    for row in rows:
        try:
            yield counter.tokens(source.read(row), row)
        except BadRow as error:
            if not source.skip_bad:
                raise UserError(
                    f"{source.name}: {source.place(row)}: {error.detail}", "mend the row, or set on_bad_row: skip"
                ) from None
            bad.setdefault(source.name, f"{source.place(row)}: {error.detail}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that holds the first Ctrl-C or SIGTERM once it has come; a second one interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""Batches of a phase, for one of several processes.

Row r of every step comes from lane r, so that what is trained on depends neither on the number of processes, nor on
accumulation, nor on workers: these only decide which lanes are filled where.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from smoe_cli.data.batch import Batch, Row, collate
from smoe_cli.data.documents import NO_TARGET, DocumentBuilder
from smoe_cli.data.lanes import Lane, Stream
from smoe_cli.data.sources import open_source
from smoe_cli.errors import Failure, SmoeError, UserError
from smoe_cli.recipe.nodes import TEXT, VAE, VIT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.plan import Plan
    from smoe_cli.recipe.models import Recipe

log = logging.getLogger("smoe.data")

_NOTICES = 3
"""Broken rows shown per source and reason; all are counted."""


@dataclass(frozen=True)
class Step:
    """What one process trains on in one optimizer step."""

    micro_batches: list[Batch]
    """`accumulate` batches of equally many rows, lanes in ascending order."""
    state: dict[str, Any]
    """JSON-able; the union over all processes, given to `PhaseLoader`, continues with the next step."""
    counts: dict[str, int]
    """Of this process and step: `tokens/text`, `tokens/vit`, `tokens/vae`, `padding`, `targets` (tokens to predict),
    `images/vit`, `images/vae`, `latents` (latent values to predict), `documents`."""


@dataclass(frozen=True)
class _Filled:
    """A row and what has to travel with it."""

    lane: int
    row: Row
    state: dict[str, Any]
    positions: dict[str, Any]
    """{source: position} of streamed sources after this row."""
    notices: list[tuple[str, str, str]]


class PhaseLoader:
    """The data of a phase. Iterating yields steps without end; a new iteration continues after the last step yielded.

    `state` is the union of the states of all processes at some step; None starts the phase. Raises UserError when a source
    cannot be opened, or rows cannot be divided among processes and micro-batches; Failure when the state does not fit.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        phase_index: int,
        tokenizer: PreTrainedTokenizerFast,
        rank: int = 0,
        world: int = 1,
        state: Mapping[str, Any] | None = None,
    ):
        phase = plan.phases[phase_index]
        rows, self._accumulate = phase.rows_per_step, phase.accumulate
        if rows % (world * self._accumulate):
            raise UserError(
                f'phase "{phase.name}": {rows} rows per step cannot be divided among {world} processes × {self._accumulate} '
                "micro-batches",
                help=f"make tokens_per_step a multiple of {recipe.data.sequence_length * world * self._accumulate}",
            )
        names = list(recipe.data.sources)
        mixture = recipe.phases[phase_index].mixture
        sources = [
            open_source(name, spec, recipe.seed, phase_index, rank, world)
            for name, spec in recipe.data.sources.items()
            if name in mixture
        ]
        self._stream = Stream(
            seed=recipe.seed,
            phase=phase_index,
            lanes=rows,
            sequence_length=recipe.data.sequence_length,
            shift=recipe.model.latents.shift if recipe.model.latents else 1.0,
            sources=sources,
            source_ids=[names.index(source.name) for source in sources],
            weights=[mixture[source.name] for source in sources],
            builder=DocumentBuilder(recipe, plan, tokenizer),
        )
        self._lanes = range(rank, rows, world)
        self._suffix = f"/{rank}/{world}"
        self._workers = _divisor(len(self._lanes), recipe.data.workers)
        if any(source.streamed for source in sources):
            self._workers = min(self._workers, 1)  # one reader, or the order of its rows would depend on the workers
        self._state: dict[str, Any] = self._own(state) if state else {}
        self._shown: dict[tuple[str, str], set[str]] = {}

    def __iter__(self) -> Iterator[Step]:
        filler = _Filler(self._stream, self._lanes, dict(self._state), self._suffix)
        if not self._workers:
            yield from self._steps(iter(filler))
            return
        loader = DataLoader(
            filler,
            batch_size=None,
            num_workers=self._workers,
            collate_fn=_unchanged,
            worker_init_fn=_ignore_interrupt,
            prefetch_factor=max(2, 2 * len(self._lanes) // self._workers),
            # Without its own generator, starting the workers would draw from the global one, and dropout would not resume.
            generator=torch.Generator().manual_seed(0),
        )
        try:
            yield from self._steps(iter(loader))
        except SmoeError as error:
            # The traceback would keep the workers alive, and stopping them late takes seconds.
            raise error.with_traceback(None) from None

    def report(self) -> dict[str, dict[str, Any]]:
        """{source: {drawn, skipped, reasons: {reason: n}}} of this process, up to the last step yielded."""
        return report_of([self._state])

    def _steps(self, filled: Iterator[_Filled | SmoeError]) -> Iterator[Step]:
        per_batch = len(self._lanes) // self._accumulate
        while True:
            step = [self._received(next(filled)) for _ in self._lanes]
            self._state = {str(item.lane): item.state for item in step}
            self._state |= {f"stream/{name}{self._suffix}": value for name, value in step[-1].positions.items()}
            self._state |= {f"rows/{source.name}": source.rows for source in self._stream.sources}
            rows = [item.row for item in step]
            batches = [collate(rows[i : i + per_batch], self._stream.builder) for i in range(0, len(rows), per_batch)]
            yield Step(batches, dict(self._state), counts_of(batches))

    def _received(self, item: _Filled | SmoeError) -> _Filled:
        if isinstance(item, SmoeError):
            raise item
        for source, reason, message in item.notices:
            shown = self._shown.setdefault((source, reason), set())
            if len(shown) < _NOTICES and message not in shown:
                shown.add(message)
                log.warning("skipped: %s%s", message, " (more like it are only counted)" if len(shown) == _NOTICES else "")
        return item

    def _own(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a saved state that belongs to this process."""
        lanes = {key for key in state if "/" not in key}
        if lanes != {str(lane) for lane in range(self._stream.lanes)}:
            raise Failure(
                f"the saved data position has {len(lanes)} rows per step, this phase {self._stream.lanes}",
                help="resume with the recipe that the run was started with",
            )
        keys = [str(lane) for lane in self._lanes]
        for source in self._stream.sources:
            before = state.get(f"rows/{source.name}")
            if before != source.rows:
                raise UserError(
                    f'source "{source.name}" has {source.rows} rows, and had {before} when this run was saved',
                    help="restore the data as it was, or start a new run",
                )
            key = f"stream/{source.name}{self._suffix}"
            if source.streamed and key not in state:
                raise UserError(
                    f'source "{source.name}" is streamed, and its position was saved for another number of processes',
                    help="resume with as many processes as before, or read it without `streaming`",
                )
            keys += [key] if source.streamed else []
        return {key: state[key] for key in keys}


def report_of(states: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{source: {drawn, skipped, reasons}} summed over the lanes of some states (of all processes, or their union)."""
    return merge_reports(lane["report"] for state in states for key, lane in state.items() if "/" not in key)


def merge_reports(reports: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Reports {source: {drawn, skipped, reasons}} added up."""
    total: dict[str, dict[str, Any]] = {}
    for report in reports:
        for name, counts in report.items():
            into = total.setdefault(name, {"drawn": 0, "skipped": 0, "reasons": {}})
            into["drawn"] += counts["drawn"]
            into["skipped"] += counts["skipped"]
            for reason, n in counts["reasons"].items():
                into["reasons"][reason] = into["reasons"].get(reason, 0) + n
    return total


class _Filler(IterableDataset):
    """Rows of a process's lanes, round and round. In a DataLoader each worker fills every n-th lane; the loader takes from the
    workers in turn, which puts them back in order."""

    def __init__(self, stream: Stream, lanes: Sequence[int], state: dict[str, Any], suffix: str):
        self._stream, self._lanes, self._state, self._suffix = stream, lanes, state, suffix

    def __iter__(self) -> Iterator[_Filled | SmoeError]:
        worker = get_worker_info()
        indices = self._lanes[worker.id :: worker.num_workers] if worker else self._lanes
        try:
            yield from self._fill(indices)
        except SmoeError as error:
            if worker is None:
                raise
            yield error  # raised in a worker, it would arrive with a traceback for a message

    def _fill(self, indices: Sequence[int]) -> Iterator[_Filled]:
        lanes = [(index, Lane(self._stream, index, self._state.get(str(index)))) for index in indices]
        streamed = [source for source in self._stream.sources if source.streamed]
        for source in streamed:
            source.position = self._state.get(f"stream/{source.name}{self._suffix}")
        while True:
            for index, lane in lanes:
                row = lane.next_row()
                notices, lane.notices = lane.notices, []
                yield _Filled(index, row, lane.state(), {source.name: source.position for source in streamed}, notices)


def _unchanged(item: Any) -> Any:
    return item


def _ignore_interrupt(worker_id: int) -> None:
    """Ctrl-C reaches the whole process group; it is the trainer's to handle, which stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _divisor(n: int, most: int) -> int:
    """Largest divisor of n that is at most `most`; 0 for 0. Workers must share the lanes evenly to deliver them in turn."""
    return next((d for d in range(min(n, most), 0, -1) if n % d == 0), 0)


def counts_of(batches: Sequence[Batch]) -> dict[str, int]:
    """The `counts` of a Step, from its micro-batches."""

    def count(key: str, value: int) -> int:
        return sum(int((batch[key] == value).sum()) for batch in batches)

    padding = count("document", -1)
    return {
        "tokens/text": count("modality", TEXT) - padding,
        "tokens/vit": count("modality", VIT),
        "tokens/vae": count("modality", VAE),
        "padding": padding,
        "targets": sum(batch["targets"].numel() for batch in batches) - count("targets", NO_TARGET),
        "images/vit": sum(len(batch["vit_pixels"]) for batch in batches),
        "images/vae": sum(len(batch["vae_pixels"]) for batch in batches),
        "latents": sum(batch["noise"].numel() for batch in batches),
        "documents": sum(int((batch["document"].amax(dim=1) + 1).sum()) for batch in batches),
    }

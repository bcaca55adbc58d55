"""Batches: the same data whatever the number of processes, workers and micro-batches, and after any restart."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_cli.data.loader import PhaseLoader, Step, report_of
from smoe_cli.data.tokenizer import load_tokenizer
from smoe_cli.errors import Failure, UserError
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.models import BytesTokenizer, Recipe
from tests.helpers import tiny

from .make import png, rows_of, write_jsonl

TOKENIZER = load_tokenizer(BytesTokenizer(kind="bytes"))
JOINT = 1
ROWS = 8


def _recipe(**changes: Any) -> Recipe:
    """The tiny recipe with eight rows a step and mostly images, so that rows hold several documents."""
    mixture = {"prose": 1, "read": 8, "draw": 8}
    return tiny(**{"phases.1.tokens_per_step": 64 * ROWS, "phases.1.mixture": mixture, **changes})


def _loader(recipe: Recipe | None = None, phase: int = JOINT, **where: Any) -> PhaseLoader:
    recipe = recipe or _recipe()
    return PhaseLoader(recipe, compile_plan(recipe), phase, TOKENIZER, **where)


def _steps(n: int, recipe: Recipe | None = None, **where: Any) -> list[Step]:
    return list(islice(iter(_loader(recipe, **where)), n))


REFERENCE = _steps(6)


# ------------------------------------------------------------------------------------------------------------- content


def test_a_batch_has_the_shapes_and_types_of_the_contract() -> None:
    recipe = _recipe()
    plan = compile_plan(recipe)
    for step in REFERENCE:
        (batch,) = step.micro_batches
        seen, drawn = len(batch["vit_pixels"]), len(batch["vae_pixels"])
        for key in ("input_ids", "targets", "modality", "document", "image", "source"):
            assert batch[key].shape == (ROWS, 64)
            assert batch[key].dtype == torch.int64
        assert batch["position_ids"].shape == (ROWS, 64, 3)
        assert batch["position_ids"].dtype == torch.int64
        assert batch["vit_pixels"].shape == (seen, 3, 8, 16)
        assert batch["vae_pixels"].shape == (drawn, 3, 8, 16)
        assert batch["timestep"].shape == batch["vae_source"].shape == (drawn,)
        assert batch["noise"].shape == (drawn, plan.vae_tokens, plan.latent_dim)
        for key in ("vit_pixels", "vae_pixels", "timestep", "noise"):
            assert batch[key].dtype == torch.float32
        assert ((batch["timestep"] > 0) & (batch["timestep"] < 1)).all()
        assert batch["vit_pixels"].abs().max() <= 1
        assert (batch["vae_source"] == 2).all()
        assert seen * plan.vit_tokens == (batch["modality"] == 1).sum()
        assert drawn * plan.vae_tokens == (batch["modality"] == 2).sum()


def test_sources_are_numbered_as_in_the_recipe() -> None:
    """prose, read, draw; the mixture's own order does not matter, nor that it leaves one out."""
    recipe = tiny(**{"phases.1.mixture": {"draw": 1, "read": 1}})
    (batch,) = _steps(1, recipe)[0].micro_batches
    for modality, source in ((1, 1), (2, 2)):
        assert set(batch["source"][batch["modality"] == modality].tolist()) == {source}
    assert set(batch["source"].unique().tolist()) <= {-1, 1, 2}


def test_a_phase_without_images_has_empty_pixels() -> None:
    (batch,) = _steps(1, tiny(**{"phases.1.mixture": {"prose": 1}}))[0].micro_batches
    assert batch["vit_pixels"].shape == batch["vae_pixels"].shape == (0, 3, 8, 16)
    assert batch["noise"].shape == (0, 4, 96)
    assert batch["timestep"].shape == batch["vae_source"].shape == (0,)


def test_counts_are_those_of_the_batches() -> None:
    for step in _steps(3, _recipe(**{"phases.1.accumulate": 4})):
        total: Counter[str] = Counter()
        for row in rows_of(step):
            for modality, document, target in zip(row["modality"], row["document"], row["targets"], strict=True):
                total["padding" if document < 0 else ("tokens/text", "tokens/vit", "tokens/vae")[modality]] += 1
                total["targets"] += target >= 0
            total["documents"] += max(row["document"]) + 1
            total["images/vit"] += len(row["vit_pixels"])
            total["images/vae"] += len(row["vae_pixels"])
            total["latents"] += len(row["vae_pixels"]) * 4 * 96
        assert step.counts == {**dict.fromkeys(step.counts, 0), **total}


def test_noise_is_standard_normal() -> None:
    noise = torch.cat([step.micro_batches[0]["noise"] for step in REFERENCE])
    assert noise.mean().abs() < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()


# ---------------------------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_splits_the_same_rows(accumulate: int) -> None:
    steps = _steps(3, _recipe(**{"phases.1.accumulate": accumulate}))
    for step, reference in zip(steps, REFERENCE, strict=False):
        assert [len(batch["input_ids"]) for batch in step.micro_batches] == [ROWS // accumulate] * accumulate
        assert rows_of(step) == rows_of(reference)
        assert step.state == reference.state


@pytest.mark.parametrize("world", [2, 4])
def test_processes_divide_the_same_rows(world: int) -> None:
    processes = [_steps(3, _recipe(**{"phases.1.accumulate": 2}), rank=rank, world=world) for rank in range(world)]
    for i, reference in enumerate(REFERENCE[:3]):
        rows = rows_of(reference)
        merged: dict[str, Any] = {}
        for rank in range(world):
            assert rows_of(processes[rank][i]) == rows[rank::world]
            merged |= processes[rank][i].state
        assert merged == reference.state


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with a single core
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(workers: int) -> None:
    """Also with three, which cannot share eight lanes evenly."""
    loader = _loader(_recipe(**{"data.workers": workers}))
    for step, reference in zip(islice(iter(loader), 4), REFERENCE, strict=False):
        assert rows_of(step) == rows_of(reference)
        assert step.state == reference.state
        assert step.counts == reference.counts
    assert loader.report() == report_of([REFERENCE[3].state])


def test_nothing_depends_on_global_generators_or_changes_them() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    (step,) = _steps(1, _recipe(**{"data.workers": 1}))
    assert rows_of(step) == rows_of(REFERENCE[0])
    assert (torch.get_rng_state() == before).all()


def test_lanes_can_be_sent_to_spawned_workers() -> None:
    from smoe_cli.data.loader import _Filler

    loader = _loader()
    filler = pickle.loads(pickle.dumps(_Filler(loader._stream, range(ROWS), {}, "/0/1")))
    rows = [item.row for item in islice(iter(filler), 2 * ROWS)]
    assert [row.columns[0].tolist() for row in rows[:ROWS]] == [row["input_ids"] for row in rows_of(REFERENCE[0])]


PROGRAM = """
import hashlib, json, sys
from tests.data.test_loader import fingerprint
print(fingerprint())
"""


def fingerprint() -> str:
    """Of the first steps, pixels and noise included."""
    return hashlib.sha256(json.dumps([rows_of(step) for step in REFERENCE], sort_keys=True).encode()).hexdigest()


def test_other_processes_see_the_same_data() -> None:
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    assert {process.communicate()[0].strip() for process in running} == {fingerprint()}


def test_seed_and_phase_change_the_data() -> None:
    other = _steps(1, _recipe(seed=1))[0]
    assert rows_of(other) != rows_of(REFERENCE[0])
    again = _recipe().model_dump(mode="json")
    again["phases"] = [again["phases"][0], again["phases"][1], {**again["phases"][1], "name": "again"}]
    assert rows_of(_steps(1, Recipe.model_validate(again), phase=2)[0]) != rows_of(REFERENCE[0])


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("stop", range(5))
def test_a_run_resumes_exactly_from_any_step(stop: int) -> None:
    state = json.loads(json.dumps(REFERENCE[stop].state))
    for step, reference in zip(_steps(5 - stop, state=state), REFERENCE[stop + 1 :], strict=True):
        assert rows_of(step) == rows_of(reference)
        assert step.state == reference.state


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_run_resumes_with_other_workers_processes_and_micro_batches() -> None:
    state = REFERENCE[2].state
    recipe = _recipe(**{"data.workers": 2, "phases.1.accumulate": 2})
    for rank in (0, 1):
        for step, reference in zip(_steps(2, recipe, rank=rank, world=2, state=state), REFERENCE[3:], strict=False):
            assert rows_of(step) == rows_of(reference)[rank::2]


def test_a_second_iteration_continues_the_first() -> None:
    loader = _loader()
    for reference in REFERENCE[:3]:
        step = next(iter(loader))
        assert rows_of(step) == rows_of(reference)


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(Failure, match="has 8 rows per step, this phase 4"):
        _loader(_recipe(**{"phases.1.tokens_per_step": 256}), state=REFERENCE[0].state)


def test_rows_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(UserError, match="8 rows per step cannot be divided among 3 processes × 1 micro-batches") as caught:
        _loader(world=3)
    assert caught.value.help == "make tokens_per_step a multiple of 192"


# ------------------------------------------------------------------------------------------------- broken rows, streams


def _with_files(folder: Path, **changes: Any) -> Recipe:
    """Texts and captions from files, one row of which is broken."""
    (folder / "a.png").write_bytes(png())
    texts = [{"text": f"text number {i}, " * (1 + i % 7)} for i in range(20)]
    texts[13] = {"text": ""}
    captions = [{"caption": f"{i}", "image": "a.png" if i != 4 else "gone.png"} for i in range(9)]
    spec = {"kind": "dataset", "on_bad_row": "skip"}
    sources = {
        "texts": {**spec, "task": "lm", "path": str(write_jsonl(folder / "texts.jsonl", texts))},
        "captions": {**spec, "task": "t2i", "path": str(write_jsonl(folder / "captions.jsonl", captions))},
    }
    recipe = tiny().model_dump(mode="json")
    recipe["data"]["sources"] |= sources
    recipe["phases"][1] |= {"mixture": {"texts": 1, "captions": 1}, "tokens_per_step": 256}
    recipe = Recipe.model_validate(recipe).model_dump(mode="json")
    for path, value in changes.items():
        node = recipe
        *parents, last = path.split(".")
        for key in parents:
            node = node[key]
        node[last] = value
    return Recipe.model_validate(recipe)


def test_skipped_rows_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = _with_files(tmp_path)
    loader = _loader(recipe)
    steps = list(islice(iter(loader), 40))
    report = loader.report()
    assert set(report) == {"texts", "captions"}
    assert report["texts"]["reasons"] == {'column "text" is empty': report["texts"]["skipped"]}
    assert report["captions"]["reasons"] == {"image file not found": report["captions"]["skipped"]}
    for counts, rows in ((report["texts"], 20), (report["captions"], 9)):
        assert counts["drawn"] > 2 * rows
        assert counts["skipped"] == pytest.approx((counts["drawn"] + counts["skipped"]) / rows, abs=4), "one in each epoch"
    warned = [record.message for record in caplog.records]
    message = f'skipped: source "texts": row 14 of {tmp_path}/texts.jsonl: column "text" is empty'
    assert warned.count(message) == 1, "shown once, counted each time"
    assert len(warned) == 2

    resumed = _loader(recipe, state=steps[20].state)
    list(islice(iter(resumed), 19))
    assert resumed.report() == report, "counts go on where they stopped"
    halves = [list(islice(iter(_loader(recipe, rank=rank, world=2)), 40))[-1].state for rank in (0, 1)]
    assert report_of(halves) == report


def test_only_the_first_broken_rows_of_a_sort_are_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = _with_files(tmp_path)
    write_jsonl(tmp_path / "texts.jsonl", [{"text": "fine" if i % 2 else ""} for i in range(40)])
    list(islice(iter(_loader(recipe)), 20))
    shown = [record.message for record in caplog.records if "texts" in record.message]
    assert len(shown) == len(set(shown)) == 3
    assert [line.endswith("(more like it are only counted)") for line in shown] == [False, False, True]


def test_data_that_grew_or_shrank_under_a_stopped_run_is_named(tmp_path: Path) -> None:
    recipe = _with_files(tmp_path)
    state = _steps(1, recipe)[0].state
    write_jsonl(tmp_path / "texts.jsonl", [{"text": "less"}] * 7)
    with pytest.raises(UserError, match='source "texts" has 7 rows, and had 20 when this run was saved'):
        _loader(recipe, state=state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_row_stops_the_run_without_a_traceback(tmp_path: Path, workers: int) -> None:
    recipe = _with_files(tmp_path, **{"data.workers": workers, "data.sources.texts.on_bad_row": "error"})
    with pytest.raises(UserError) as caught:
        list(islice(iter(_loader(recipe)), 40))
    assert caught.value.message == f'source "texts": row 14 of {tmp_path}/texts.jsonl: column "text" is empty'
    assert caught.value.help == "mend the row, or set `on_bad_row: skip` to pass over rows like it"


def _streaming(folder: Path, **changes: Any) -> Recipe:
    return _with_files(folder, **{"data.sources.texts.streaming": True, "data.sources.captions.streaming": True, **changes})


def test_streams_resume_exactly(tmp_path: Path) -> None:
    steps = _steps(12, _streaming(tmp_path))
    for stop in range(0, 11, 2):
        again = _steps(11 - stop, _streaming(tmp_path), state=json.loads(json.dumps(steps[stop].state)))
        assert [rows_of(step) for step in again] == [rows_of(step) for step in steps[stop + 1 :]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("changes", [{"data.workers": 1}, {"data.workers": 2}])
def test_workers_change_nothing_in_streams(tmp_path: Path, changes: dict[str, int]) -> None:
    reference = _steps(6, _streaming(tmp_path))
    steps = _steps(6, _streaming(tmp_path, **changes))
    assert [rows_of(step) for step in steps] == [rows_of(step) for step in reference]
    assert [step.state for step in steps] == [step.state for step in reference]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_hub_streams_resume_exactly(quiet: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    import datasets

    texts = [{"text": f"text number {i}, " * (1 + i % 7)} for i in range(20)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.Dataset.from_list(texts).to_iterable_dataset(3))
    recipe = _streaming(quiet, **{"data.sources.texts.path": "org/name", "data.workers": workers})
    steps = _steps(12, recipe)
    assert [rows_of(s) for s in _steps(12, _streaming(quiet, **{"data.sources.texts.path": "org/name"}))] == [
        rows_of(s) for s in steps
    ]
    for stop in (0, 4, 9):
        again = _steps(11 - stop, recipe, state=json.loads(json.dumps(steps[stop].state)))
        assert [rows_of(step) for step in again] == [rows_of(step) for step in steps[stop + 1 :]]


def test_streams_of_several_processes_resume_together(tmp_path: Path) -> None:
    recipe = _streaming(tmp_path)
    steps = [_steps(6, recipe, rank=rank, world=2) for rank in (0, 1)]
    merged = {**steps[0][2].state, **steps[1][2].state}
    for rank in (0, 1):
        again = _steps(3, recipe, rank=rank, world=2, state=merged)
        assert [rows_of(step) for step in again] == [rows_of(step) for step in steps[rank][3:]]
    with pytest.raises(UserError, match='"texts" is streamed, and its position was saved for another number of processes'):
        _loader(recipe, state=merged)

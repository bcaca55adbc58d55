"""A profile that is stopped and continued equals one that was not."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_cli.convert.profiling.counting import Settings, merge, profile_model
from smoe_cli.convert.profiling.data import Documents
from smoe_cli.convert.profiling.run import Stopped, begin, run
from smoe_cli.convert.profiling.tally import PADDING, STEP, LayerTally, Tally
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.errors import Failure, UserError
from smoe_cli.plan.profile import Profile, read_profile
from tests.convert.profiling.profiles import texts, write_texts
from tests.families.tiny import write_checkpoint

EMPTY = Profile("olmoe", None, (0, 1), 5, 1, {}, {}, {}, model="m", pools=(5,))


class Fake:
    """Sends a text to the expert that its length says. Dies, or is told to stop, in its nth batch."""

    def __init__(self, die: int = -1, stop: int = -1):
        self.die, self.stop, self.batches = die, stop, []

    def tokens(self, sample: Sample, position: int) -> int:
        if sample.text.startswith("of"):
            raise BadRow("starts badly", "it starts with `of`")
        return len(sample.text)

    def count(self, documents: Sequence[int]) -> Tally:
        self.batches.append(list(documents))
        if len(self.batches) == self.die:
            raise MemoryError
        if len(self.batches) == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        tally = Tally(2, 5)
        for length in documents:
            tally.counts[:, 0, length % 5] += 1
            tally.mass[:, 0, length % 5] += round(STEP / length)
            tally.tokens[0] += 1
        return tally


def source(name: str, n: int, skip_bad: bool = True, seed: int = 0) -> Documents:
    rows = texts(n, seed)
    return Documents(name, name, "lm", n, lambda i: Sample("lm", text=rows[i]), lambda i: f"row {i}", skip_bad)


SOURCES = {"a": source("a", 50), "b": source("b", 23, seed=1)}


def count(counter: Any, out: Path, batch: int = 4, limit: int | None = None, seconds: float = 1e9, **options: Any) -> Profile:
    return run(counter, SOURCES, begin(out, EMPTY, SOURCES, limit), out, batch, seconds=seconds, **options)


def test_stopped_anywhere_and_continued(tmp_path: Path) -> None:
    whole = count(Fake(), tmp_path / "whole.json")
    batches = -(-50 // 4) + -(-23 // 4)
    for at in range(1, batches + 1):
        out = tmp_path / f"{at}.json"
        with pytest.raises(Stopped) as stopped:
            count(Fake(stop=at), out)
        assert stopped.value.signal == signal.SIGTERM
        assert read_profile(out) == stopped.value.profile
        assert count(Fake(), out) == whole
        assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_killed_between_saves_and_continued(tmp_path: Path) -> None:
    whole = count(Fake(), tmp_path / "whole.json")
    out = tmp_path / "killed.json"
    for at in (3, 5, 7):
        with pytest.raises(MemoryError):
            count(Fake(die=at), out, seconds=0)
        assert read_profile(out).data["a"].rows > 0
    rest = Fake()
    assert count(rest, out) == whole
    assert len(rest.batches) < 19


def test_what_was_counted_is_saved_when_memory_runs_out(tmp_path: Path) -> None:
    class Full(Fake):
        def count(self, documents: Sequence[int]) -> Tally:
            if len(documents) > 2:
                raise torch.OutOfMemoryError("tried to allocate\n…")
            return super().count(documents)

    out = tmp_path / "x.json"
    begun = count(Fake(), out, 2, limit=10)
    with pytest.raises(Failure, match="out of memory: tried to allocate") as error:
        count(Full(), out, 4)
    assert "lower --batch-size" in str(error.value)
    assert read_profile(out).tokens == begun.tokens
    assert count(Full(), out, 2) == count(Fake(), tmp_path / "whole.json", 2)


def test_weights_that_are_no_numbers_stop_the_run() -> None:
    table = LayerTally(3)
    weights = torch.tensor([[float("nan"), 0.5], [0.5, 0.5]])
    table.add(torch.tensor([PADDING, 0]), torch.tensor([[0, 1], [1, 2]]), weights)
    counts, mass = table.take()  # padding may hold anything
    assert counts[0].tolist() == [0, 1, 1]
    assert mass[0].tolist() == [0, STEP // 2, STEP // 2]
    table.add(torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 2]]), weights)
    with pytest.raises(Failure, match="not finite"):
        table.take()


def test_the_second_interruption_does_not_wait(tmp_path: Path) -> None:
    class Twice(Fake):
        def count(self, documents: Sequence[int]) -> Tally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return super().count(documents)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        count(Twice(), tmp_path / "x.json")
    assert signal.getsignal(signal.SIGINT) is before


def test_batch_sizes_and_limits_add_up(tmp_path: Path) -> None:
    whole = count(Fake(), tmp_path / "whole.json")
    out = tmp_path / "steps.json"
    for limit, batch in ((5, 2), (30, 7), (None, 100)):
        part = count(Fake(), out, batch, limit)
    assert part == whole
    with pytest.raises(UserError, match="more than --limit 10"):
        count(Fake(), out, limit=10)


def test_bad_rows_are_skipped_and_counted_or_stop_the_run(tmp_path: Path) -> None:
    profile = count(Fake(), tmp_path / "x.json")
    bad = sum(text.startswith("of") for text in texts(50))
    assert bad > 0
    assert profile.data["a"].skipped == bad
    assert profile.tokens["text"] == 73 - bad - profile.data["b"].skipped
    strict = {"a": dataclasses.replace(SOURCES["a"], skip_bad=False)}
    with pytest.raises(UserError, match=r"a: row \d+: it starts with `of`"):
        run(Fake(), strict, begin(tmp_path / "y.json", EMPTY, strict, None), tmp_path / "y.json", 4)
    hopeless = {"c": dataclasses.replace(SOURCES["a"], name="c", rows=3, read=lambda i: Sample("lm", text="of"))}
    with pytest.raises(UserError, match="c: none of its 3 rows could be used: row 0: it starts"):
        run(Fake(), hopeless, begin(tmp_path / "z.json", EMPTY, hopeless, None), tmp_path / "z.json", 4)


def test_a_profile_of_something_else_is_not_continued(tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    count(Fake(), out)
    with pytest.raises(UserError, match="`dtype` is 'float32', here 'bfloat16'"):
        begin(out, dataclasses.replace(EMPTY, dtype="bfloat16"), SOURCES, None)
    with pytest.raises(UserError, match="also counts b"):
        begin(out, EMPTY, {"a": SOURCES["a"]}, None)
    more = begin(out, EMPTY, SOURCES | {"c": source("c", 3)}, None)
    assert not more.finished
    assert more.data["c"].rows == 0


def test_a_tally_of_a_profile_is_the_profile(tmp_path: Path) -> None:
    profile = count(Fake(), tmp_path / "x.json")
    assert Tally.of(profile).tables() == (profile.tokens, profile.counts, profile.mass)


def test_a_model_over_two_files_equals_the_sum_of_each(tmp_path: Path) -> None:
    model = str(write_checkpoint("olmoe", tmp_path / "olmoe"))
    files = [write_texts(tmp_path / f"{seed}.jsonl", 7, seed) for seed in (0, 1)]
    for seed, file in enumerate(files):
        profile_model(model, [str(file)], tmp_path / f"part{seed}.json", Settings())
    both = profile_model(model, [str(file) for file in files], tmp_path / "both.json", Settings())
    parts = [tmp_path / f"part{seed}.json" for seed in (0, 1)]
    assert merge(parts) == merge(parts[::-1]) == both
    with pytest.raises(UserError, match=r"part0\.json and .*both\.json cannot be added: the same data"):
        merge([tmp_path / "part0.json", tmp_path / "both.json"])


def test_the_same_data_under_two_names_is_refused(tmp_path: Path) -> None:
    model = str(write_checkpoint("olmoe", tmp_path / "olmoe"))
    files = [str(write_texts(tmp_path / f"{name}.jsonl", 3)) for name in "xy"]
    with pytest.raises(UserError, match="hold the same data"):
        profile_model(model, files, tmp_path / "out.json", Settings())


def test_other_weights_of_the_same_shape_are_another_model(tmp_path: Path) -> None:
    data = [str(write_texts(tmp_path / "a.jsonl", 3))]
    out = tmp_path / "out.json"
    for seed in (0, 1):
        write_checkpoint("olmoe", tmp_path / f"model{seed}", seed=seed)
    profile_model(str(tmp_path / "model0"), data, out, Settings())
    with pytest.raises(UserError, match="counts another model or run: `weights`"):
        profile_model(str(tmp_path / "model1"), data, out, Settings())


def test_half_precision_is_counted_as_it_computes(tmp_path: Path) -> None:
    model = str(write_checkpoint("qwen3_moe", tmp_path / "model", moe_intermediate_size=16))
    data = [str(write_texts(tmp_path / "a.jsonl", 4))]
    profile = profile_model(model, data, tmp_path / "out.json", Settings(dtype="bfloat16"))
    assert profile.dtype == "bfloat16"
    rows = torch.tensor(profile.counts["text"]).sum(-1)
    assert (rows == profile.tokens["text"] * 2).all()

"""`smoe profile`, from the command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from smoe_cli.cli.main import run
from smoe_cli.convert.profiling.plain import PlainCounter, Tokens
from smoe_cli.convert.profiling.tally import Tally
from smoe_cli.plan.profile import read_profile
from tests.convert.profiling.profiles import write_pictures, write_texts
from tests.families.tiny import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint("qwen3_vl_moe", tmp_path_factory.mktemp("models") / "vlm")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def profile(*arguments: object) -> int:
    return run(["profile", *map(str, arguments)])


def test_file_figure_and_table(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, prose = write_pictures(tmp_path / "pictures", 4), write_texts(tmp_path / "texts.jsonl", 6)
    assert profile(model, "--data", pictures, "--data", prose, "--image-size", 32, 48) == 0
    written = read_profile("profile.json")
    assert sorted(counted.rows for counted in written.data.values()) == [4, 6]
    assert Path("profile.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    for words in ("modality", "text", "vit", "top 25%", "dead experts", f"{written.tokens['text']:,}", "profile.json"):
        assert words in shown


def test_json_instead_of_the_table(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prose = write_texts(tmp_path / "texts.jsonl", 6)
    assert profile(model, "--data", prose, "--limit", 2, "--json", "-", "--figure", "map.png") == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert line["modality"] == "text"
    assert 0.25 < line["taken"]["0.25"] < line["taken"]["0.5"] < line["taken"]["0.75"] <= 1
    assert line["of"] == 3 * 8
    assert Path("map.png").exists()
    assert not Path("profile.png").exists()


def test_the_same_command_goes_on(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prose = write_texts(tmp_path / "texts.jsonl", 20)
    assert profile(model, "--data", prose, "--out", "whole.json") == 0
    assert profile(model, "--data", prose, "--limit", 8) == 0
    assert profile(model, "--data", prose) == 0
    assert "going on after 8 of 20 rows" in capsys.readouterr().err
    assert read_profile("profile.json") == read_profile("whole.json")
    assert profile(model, "--data", prose) == 0
    assert "nothing left to do" in capsys.readouterr().err


def test_profiles_are_added(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        assert profile(model, "--data", write_texts(tmp_path / f"{seed}.jsonl", 5, seed), "--out", f"{seed}.json") == 0
    assert profile("--merge", "0.json", "1.json", "--out", "both.json") == 0
    both = read_profile("both.json")
    assert both.tokens["text"] == sum(read_profile(f"{seed}.json").tokens["text"] for seed in (0, 1))
    assert profile("--merge", "0.json", "both.json", "--out", "wrong.json") == 2
    assert "the same data was counted in both" in capsys.readouterr().err
    assert not Path("wrong.json").exists()


def test_mistakes_are_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prose = write_texts(tmp_path / "texts.jsonl", 3)
    text_model = write_checkpoint("olmoe", tmp_path / "olmoe")
    dense = write_checkpoint("llama", tmp_path / "llama")
    Path("other.json").write_text("{}", encoding="utf-8")
    for arguments, words in (
        ((model,), "--data is missing"),
        ((model, model, "--data", prose), "one MODEL is expected, not 2"),
        ((tmp_path / "none", "--data", prose), "no such folder"),
        ((dense, "--data", prose), "a dense model, without experts"),
        ((text_model, "--data", write_pictures(tmp_path / "pictures", 2)), "has images, and a `olmoe` reads text only"),
        ((text_model, "--data", prose, "--image-size", 32, 32), "--image-size: no effect"),
        ((model, "--data", prose, "--image-size", 30, 32), "multiples of 16 pixels"),
        ((model, "--data", write_pictures(tmp_path / "more", 2)), "has no preprocessor_config.json"),
        ((model, "--data", prose, "--data", prose), "hold the same data"),
        ((model, "--data", prose, "--out", "other.json"), "exists and is not a profile"),
        ((model, "--data", prose, "--out", "p.png"), "the profile is written there"),
        (("--merge", "none.json"), "none.json: no such file"),
        (("--merge", "a.json", "--limit", 3), "--limit: no effect with --merge"),
        ((model, "--data", prose, "--limit", 0), "--limit"),
    ):
        assert profile(*arguments) == 2, arguments
        shown = capsys.readouterr().err
        assert words in shown
        assert "Traceback" not in shown
    assert not Path("profile.json").exists()


def test_a_signal_saves_and_the_rest_is_counted_later(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prose = write_texts(tmp_path / "texts.jsonl", 6)
    count, calls = PlainCounter.count, []

    def stopped(self: PlainCounter, documents: Sequence[Tokens]) -> Tally:
        calls.append(len(documents))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return count(self, documents)

    monkeypatch.setattr(PlainCounter, "count", stopped)
    with pytest.raises(SystemExit) as exit:
        profile(model, "--data", prose, "--batch-size", 2)
    assert exit.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; profile.json holds what was counted. Go on with: " in capsys.readouterr().err
    (counted,) = read_profile("profile.json").data.values()
    assert (counted.rows, counted.total) == (4, 6)
    assert profile(model, "--data", prose, "--batch-size", 2) == 0
    assert calls == [2, 2, 2]

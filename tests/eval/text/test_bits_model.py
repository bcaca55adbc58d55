"""`bits-per-byte` of our own models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from smoe_cli.cli.main import run
from smoe_cli.data.documents import Column, DocumentBuilder
from smoe_cli.data.prose import passages
from smoe_cli.errors import UserError
from smoe_cli.eval.choose import choose, parse_data
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.run import evaluate
from smoe_cli.model.inference import _prefill
from smoe_cli.recipe.measures import BitsPerByte
from tests.eval.folders import build, write_model
from tests.helpers import tiny

SPLIT = {"data.sources.prose": {"kind": "python-docs", "task": "lm", "split": "train"}}
TASK = BitsPerByte(task="bits-per-byte", source="prose", limit=3)


def test_bits_are_the_training_loss_of_the_same_tokens() -> None:
    model, tokenizer = build(tiny(**SPLIT))
    longest = max(map(len, map(str.encode, passages("heldout"))))
    (result,) = evaluate(OpenModel(model, tokenizer), [TASK.model_copy(update={"window": longest})])
    builder, nats = DocumentBuilder(model.recipe, model.plan, tokenizer), 0.0
    for text in passages("heldout")[:3]:
        document = builder.lm(text)
        with torch.inference_mode():
            log_probs = torch.log_softmax(model.backbone.lm_head(_prefill(model, [document])[1][0]).double(), -1)
        targets = document.columns[Column.TARGETS][:-2]  # not <eos>, and nothing after it
        nats -= float(log_probs[range(len(targets)), targets].sum())
    assert result.details["bits"] == pytest.approx(nats / math.log(2), rel=1e-6)
    assert result.protocol["source"] == "prose"
    assert result.warnings == ("only the first 3 text(s)",)


def test_windows_are_the_rows_of_training_and_the_batch_does_not_matter() -> None:
    model, tokenizer = build(tiny(**SPLIT))
    (one,) = evaluate(OpenModel(model, tokenizer), [TASK], batch_size=1)
    (many,) = evaluate(OpenModel(model, tokenizer), [TASK], batch_size=50)
    assert one.protocol["window"] == model.recipe.data.sequence_length
    assert one.details["bits"] == pytest.approx(many.details["bits"], rel=1e-6)


def test_a_window_beyond_the_positions() -> None:
    model, tokenizer = build(tiny(**SPLIT))
    with pytest.raises(UserError, match="a window of 10000000 tokens"):
        evaluate(OpenModel(model, tokenizer), [TASK.model_copy(update={"window": 10_000_000})])


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(tmp_path / "model", tiny(**SPLIT))
    file = tmp_path / "texts.jsonl"
    file.write_text(json.dumps({"text": "naïve"}) + "\n", encoding="utf-8")
    assert run(["eval", str(folder), "--tasks", "bits-per-byte", "--data", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "bits-per-byte" in shown
    assert "n = 1" in shown
    assert run(["eval", str(folder), "--tasks", "bits-per-byte", "--limit", "2", "--json", "-"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["details"]["texts"] == 2
    assert result["details"]["bytes"] == sum(len(text.encode()) for text in passages("heldout")[:2])


def test_choosing_it() -> None:
    recipe = tiny(**SPLIT)
    source = BitsPerByte(task="bits-per-byte", source="prose")
    assert choose(recipe, ["bits-per-byte"], [], None, None) == [source]
    given = [BitsPerByte(task="bits-per-byte", data="d", limit=4)]
    assert choose(recipe, ["bits-per-byte"], ["d"], None, 4) == given
    own = tiny(**SPLIT, evaluation={"tasks": [{"task": "bits-per-byte", "source": "prose", "window": 9}]})
    assert choose(own, ["bits-per-byte"], [], None, None) == list(own.evaluation.tasks)
    (replaced,) = choose(own, None, ["d"], None, None)
    assert replaced == BitsPerByte(task="bits-per-byte", data="d", window=9)
    assert parse_data(["d"], ["rendered-ocr", "bits-per-byte"]) == {"bits-per-byte": "d"}
    with pytest.raises(UserError, match="no `python-docs` source with `split: train`"):
        choose(tiny(), ["bits-per-byte"], [], None, None)
    assert choose(None, ["bits-per-byte"], ["d"]) == [BitsPerByte(task="bits-per-byte", data="d")]
    with pytest.raises(UserError, match="has no recipe with a `python-docs` source"):
        choose(None, ["bits-per-byte"])

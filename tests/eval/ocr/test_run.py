"""OCRBench asked of a model of ours: batches, early stops, and what is refused before anything is asked."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from smoe_cli.cli.main import run
from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.data.special import special_ids
from smoe_cli.errors import UserError
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.ocr.rescore import rescore
from smoe_cli.eval.results import Result
from smoe_cli.eval.run import evaluate, write
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.measures import OcrBench, RenderedOcr
from tests.eval.folders import build, write_model
from tests.eval.ocr.test_data import png, row
from tests.eval.ocr.test_data import write as write_data
from tests.helpers import tiny


@pytest.fixture(scope="module")
def opened() -> OpenModel:
    """A random model."""
    return OpenModel(*build(tiny()))


QUESTIONS = ["", "What?", "What does it say, from the left to the right?", "How many?", "?", "Read.", "x" * 50]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions of very different lengths about different pictures."""
    source = RenderedTextSource(tiny().data.sources["read"], 0)
    rows = []
    for index, question in enumerate(QUESTIONS):
        picture = io.BytesIO()
        source.sample(index).image.save(picture, format="PNG")
        rows.append(row(question=question, image={"bytes": picture.getvalue(), "path": None}))
    return write_data(tmp_path / "rows.parquet", rows)


def ask(opened: OpenModel, data: Path, batch_size: int = 8, **change: Any) -> Result:
    [result] = evaluate(opened, [OcrBench(task="ocrbench", data=str(data), **change)], batch_size=batch_size)
    return result


def answers(result: Result) -> list[str]:
    return [prediction.facts["prediction"] for prediction in result.predictions]


def test_answers_do_not_depend_on_the_batch(opened: OpenModel, data: Path) -> None:
    """Each batch is padded to its longest prompt, so that every question has other padding in every batch size."""
    alone, three, all_ = (ask(opened, data, size, max_new_tokens=24) for size in (1, 3, 8))
    assert alone.predictions == three.predictions == all_.predictions
    assert alone.protocol == three.protocol == all_.protocol
    assert [result.circumstances["batch_size"] for result in (alone, three, all_)] == [1, 3, 8]
    assert len(set(answers(alone))) > 1  # the model does look


@contextmanager
def ending(opened: OpenModel) -> Iterator[list[int]]:
    """Within the block the model ends the answer to question i of a batch after i tokens, and not before.

    Yields how many tokens at once the backbone is given, call by call.
    """
    model = opened.model
    assert isinstance(model, SymbioticModel)
    eos = special_ids(opened.tokenizer, model.recipe, model.plan).eos
    widths: list[int] = []

    def end(module: torch.nn.Module, inputs: tuple[Tensor], logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[:, eos] = torch.where(torch.arange(len(logits)) < len(widths), torch.inf, -torch.inf)
        return logits

    def count(module: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        widths.append(named["inputs_embeds"].shape[1])

    hooks = [
        model.backbone.lm_head.register_forward_hook(end),
        model.backbone.model.register_forward_pre_hook(count, with_kwargs=True),
    ]
    try:
        yield widths
    finally:
        for hook in hooks:
            hook.remove()


def test_answering_stops_when_every_answer_of_the_batch_has_ended(opened: OpenModel) -> None:
    reader = opened.reader("ocrbench")
    image = Image.new("RGB", (16, 8))
    questions = ["How many?", "?", "", "What?"]
    with ending(opened) as widths:
        got = reader.answer([image] * 4, questions, 128)
    assert got == ["", *(reader.answer([image], [question], n)[0] for n, question in enumerate(questions[1:], start=1))]
    # the prompts once, then single tokens, as many as the longest answer has: the cache holds the rest
    # (<bos> <image> 4 tokens </image> and the longest question, a token a byte)
    assert widths == [7 + len("How many?\n"), 1, 1, 1]


def test_suffix_and_token_limit_reach_the_model_and_the_protocol(opened: OpenModel, data: Path) -> None:
    plain = ask(opened, data, max_new_tokens=3)
    suffixed = ask(opened, data, max_new_tokens=3, suffix=" Answer briefly.")
    assert answers(plain) != answers(suffixed)
    assert plain.protocol["prompt_sha256"] != suffixed.protocol["prompt_sha256"]
    assert (suffixed.protocol["suffix"], suffixed.protocol["max_new_tokens"]) == (" Answer briefly.", 3)
    longer = ask(opened, data, max_new_tokens=6)
    assert all(long.startswith(short) for long, short in zip(answers(longer), answers(plain), strict=True))
    assert plain.protocol["image"] == {
        "size": [8, 16],
        "resize": "bicubic, keeping proportions, padded with grey",
        "mode": "RGB",
    }


def test_suffix_and_token_limit_count_towards_the_model_s_positions(data: Path) -> None:
    narrow = OpenModel(*build(tiny(**{"model.backbone.scratch.max_position_embeddings": 100})))
    assert len(ask(narrow, data, max_new_tokens=100 - 7 - 51).predictions) == len(QUESTIONS)
    with pytest.raises(UserError, match=r"row 7: 58 tokens of prompt and image and 43 of the answer do not fit"):
        ask(narrow, data, max_new_tokens=100 - 7 - 51 + 1)
    with pytest.raises(UserError, match=r"row 7: 59 tokens of prompt"):
        ask(narrow, data, max_new_tokens=100 - 7 - 51, suffix="!")
    assert len(ask(narrow, data, max_new_tokens=100 - 7 - 51, suffix="!", limit=6).predictions) == 6


def test_what_a_run_kept_is_scored_again_alike(opened: OpenModel, tmp_path: Path) -> None:
    [result] = evaluate(opened, [RenderedOcr(task="rendered-ocr", source="read", questions=5)])
    kept = write(result, tmp_path / "rendered-ocr.json")
    again = rescore(tmp_path / str(kept.predictions_file), "rendered-ocr")
    assert (again.name, again.metrics, again.groups) == (result.name, result.metrics, result.groups)
    assert again.predictions == result.predictions


def test_rendered_strings_are_asked_as_ocrbench_is(opened: OpenModel) -> None:
    [result] = evaluate(opened, [RenderedOcr(task="rendered-ocr", source="read", questions=2)])
    expected = {"source": "read", "seed": 0, "suffix": "", "max_new_tokens": 128, "fold_fullwidth": False, "limit": 2}
    assert {key: result.protocol[key] for key in expected} == expected
    assert (result.name, result.warnings) == ("rendered-ocr", ())


@pytest.mark.parametrize("damaged", [b"no image", png(size=(40, 40))[:60], b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_a_damaged_image_ends_before_anything_is_asked(
    damaged: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "model")
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "bad.png").write_bytes(damaged)
    file = write_data(tmp_path / "rows.jsonl", [row(image="good.png")] * 9 + [row(image="bad.png")])
    monkeypatch.setattr("smoe_cli.eval.opening.readers.OwnReader.answer", lambda *arguments: pytest.fail("asked"))
    arguments = ["eval", str(folder), "--tasks", "ocrbench", "--data", str(file), "--batch-size", "2"]
    assert run([*arguments, "--json", str(tmp_path / "out.json")]) == 2
    captured = capsys.readouterr()
    assert f"{file}: row 10: image cannot be read (" in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out.json").exists()


def test_rescoring_from_the_command_line(
    opened: OpenModel, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = write(ask(opened, data, max_new_tokens=2), tmp_path / "ocrbench.json")
    file = str(tmp_path / str(kept.predictions_file))
    assert run(["eval", "--rescore", file, "--tasks", "ocrbench", "--json", "-"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["correct"], found["total"], found["protocol"]["fold_fullwidth"]) == (0, len(QUESTIONS), False)
    assert run(["eval", "--rescore", file, "--tasks", "ocrbench", "--set", "ocrbench.fold_fullwidth=true", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["protocol"]["fold_fullwidth"] is True
    for setting, message in (
        ("ocrbench.suffix=x", "--set ocrbench.suffix has no effect with --rescore"),
        ("ocrbench.fold_fullwidth=perhaps", "--set ocrbench.fold_fullwidth: 'perhaps' is neither true nor false"),
    ):
        assert run(["eval", "--rescore", file, "--tasks", "ocrbench", "--set", setting]) == 2
        assert message in capsys.readouterr().err

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from smoe_cli.data.documents import Document, DocumentBuilder
from smoe_cli.data.rendered import RenderedTextSource
from smoe_cli.errors import UserError
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.ocr.rendered import write_rendered
from smoe_cli.eval.predictions import read_predictions
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.run import evaluate
from smoe_cli.model.mask import Layout
from smoe_cli.model.model import SymbioticModel
from smoe_cli.model.routing import Routing
from smoe_cli.recipe.measures import ArcEasy, Mmlu, OcrBench, RenderedOcr
from smoe_cli.recipe.nodes import VAE
from tests.eval.folders import READING_ONLY, build
from tests.eval.text.test_likelihood import requests
from tests.eval.tiny import write_arc, write_mmlu
from tests.helpers import tiny

RENDERED = RenderedOcr(task="rendered-ocr", source="read", questions=5)


@pytest.fixture(scope="module")
def pair() -> tuple[SymbioticModel, Any]:
    """A random model that speaks in letters: of the others, which all score 0, none is the most likely."""
    model, tokenizer = build(tiny())
    letters = torch.tensor([5 + ord(letter) for letter in string.ascii_lowercase])
    with torch.no_grad():
        kept = model.backbone.lm_head.weight[letters].clone()
        model.backbone.lm_head.weight.zero_()[letters] = kept
    return model, tokenizer


def pictures(count: int) -> list[Image.Image]:
    source = RenderedTextSource(tiny().data.sources["read"], 0)
    return [source.sample(index).image for index in range(count)]


def test_a_plain_model_and_the_backbone_of_ours_are_measured_alike(pair: tuple, tmp_path: Path) -> None:
    model, tokenizer = pair
    tasks = [
        Mmlu(task="mmlu", data=str(write_mmlu(tmp_path / "mmlu", {"anatomy": 3})), shots=1),
        ArcEasy(task="arc-easy", data=str(write_arc(tmp_path / "arc", 4, "validation")), split="validation", limit=3),
    ]
    ours, plain = (evaluate(OpenModel(one, tokenizer), tasks) for one in (model, model.backbone))
    assert [len(result.predictions) for result in ours] == [3, 3]
    assert [result.predictions for result in ours] == [result.predictions for result in plain]
    with pytest.raises(UserError, match="task `rendered-ocr` shows images"):
        evaluate(OpenModel(model.backbone, tokenizer), [RENDERED])


def test_answers_do_not_depend_on_the_batch(pair: tuple) -> None:
    reader = OpenModel(*pair).reader("rendered-ocr")
    images, questions = pictures(5), ["", "What?", "What does it say?", "", "How many, and why?"]
    together = reader.answer(images, questions, 12)
    alone = [reader.answer([image], [question], 12)[0] for image, question in zip(images, questions, strict=True)]
    assert together == alone
    assert len(set(together)) > 1  # the model does look


def test_answers_equal_those_without_a_cache(pair: tuple) -> None:
    """Token by token, each from the whole sequence as training lays it out."""
    model, tokenizer = pair
    builder = DocumentBuilder(model.recipe, model.plan, tokenizer)
    for image, question in zip(pictures(2), ["", "What?"], strict=True):
        text = ""
        for _ in range(6):
            text += tokenizer.decode([_next_token(model, builder.mmu(image, question, text))])
        assert OpenModel(model, tokenizer).reader("rendered-ocr").answer([image], [question], 6) == [text]
        assert text.isalpha()


def _next_token(model: SymbioticModel, document: Document) -> int:
    """The most likely token after the answer of a document."""
    fields = ("input_ids", "targets", "modality", "image", "position_ids")
    columns = torch.from_numpy(document.columns)[:5, :-1]  # the last token is <eos>, which is what we are after
    batch = {name: column.unsqueeze(0) for name, column in zip(fields, columns, strict=True)}
    batch["vit_pixels"] = torch.from_numpy(document.seen[0]).unsqueeze(0)
    batch["noisy_latents"] = torch.zeros(0, model.plan.vae_tokens, model.plan.latent_dim)
    batch["timestep"] = torch.zeros(0)
    layout = Layout(torch.zeros_like(batch["image"]), batch["image"], batch["modality"] == VAE)
    with torch.inference_mode():
        hidden = model.backbone.model(
            inputs_embeds=model.embed(batch).embeds_BSD,
            attention_mask=model.attention_mask(layout),
            position_ids=batch["position_ids"],
            use_cache=False,
            routing=Routing.of(batch["modality"].flatten(), model.group_of, len(model.plan.groups)),
        ).last_hidden_state
        return int(model.backbone.lm_head(hidden[:, -1]).argmax(-1))


def test_scores_do_not_depend_on_the_batch(pair: tuple) -> None:
    asked = requests(9)
    four, one = (OpenModel(*pair).scorer(size).log_likelihoods(asked) for size in (4, 1))
    assert four == pytest.approx(one, abs=1e-4)


def test_every_task_writes_its_result(tmp_path: Path) -> None:
    opened = OpenModel(*build(tiny()), identity={"path": "here"})
    mmlu = Mmlu(task="mmlu", data=str(write_mmlu(tmp_path / "mmlu", {"anatomy": 2})), shots=1)
    seen: list[tuple[str, int, int]] = []
    first = evaluate(
        opened,
        [RENDERED, mmlu, mmlu.model_copy(update={"shots": 0})],
        tmp_path / "eval",
        prefix="joint-",
        phase="joint",
        step=8,
        batch_size=2,
        progress=lambda *state: seen.append(state),
    )
    names = ["joint-rendered-ocr", "joint-mmlu", "joint-mmlu-2"]
    written = [json.loads((tmp_path / "eval" / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    assert written == [result.to_dict() for result in first]
    assert [path.name for path in sorted((tmp_path / "eval").glob("*.json"))] == sorted(f"{name}.json" for name in names)
    assert seen[:3] == [("rendered-ocr", 2, 5), ("rendered-ocr", 4, 5), ("rendered-ocr", 5, 5)]
    rendered, shot, _ = written
    assert (rendered["name"], rendered["phase"], rendered["step"], rendered["total"]) == ("rendered-ocr", "joint", 8, 5)
    assert rendered["protocol"] | {"source": "read", "seed": 0, "dtype": "float32", "shots": 0} == rendered["protocol"]
    assert rendered["circumstances"] | {"batch_size": 2, "device": "cpu"} == rendered["circumstances"]
    assert rendered["protocol"]["image"]["size"] == [8, 16]
    assert (shot["protocol"]["shots"], shot["circumstances"]["max_length"]) == (1, 4096)
    assert len(shot["hashes"]["data"]["sha256"]) == 64
    assert shot["model"] == {"path": "here", "sha256": hash_weights(opened.model)}
    kept = read_predictions(tmp_path / "eval" / shot["predictions"])
    assert kept == {"mmlu": list(first[1].predictions)}
    assert written[1]["hashes"]["data"] == written[2]["hashes"]["data"]  # the same questions, with and without examples

    # The drawn questions are kept, and are an OCRBench file like any other.
    again = evaluate(opened, [OcrBench(task="ocrbench", data=str(tmp_path / "eval/data/read"))])[0]
    assert (again.task, again.name, again.metrics) == ("ocrbench", "rendered-ocr", first[0].metrics)
    assert again.hashes["data"] == first[0].hashes["data"]


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(evaluate(OpenModel(*build(tiny())), [RENDERED])[0].predictions) == 5
    assert list(tmp_path.iterdir()) == []


def test_the_model_and_the_random_state_are_left_as_they_were() -> None:
    model, tokenizer = build(tiny())
    model.train()
    model.projector.eval()
    before = {name: p.clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    evaluate(OpenModel(model, tokenizer), [RENDERED])
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.backbone.training
    assert not model.projector.training
    assert all(torch.equal(before[name], p) and p.requires_grad for name, p in model.named_parameters())


def test_what_a_task_needs(tmp_path: Path) -> None:
    model, tokenizer = build(tiny())
    for source in ("draw", "prose", "nowhere"):
        with pytest.raises(UserError, match=f"`{source}` is not a `rendered-text` source") as caught:
            evaluate(OpenModel(model, tokenizer), [RENDERED.model_copy(update={"source": source})])
        assert "sources that can be used: read" in str(caught.value)


def narrow(positions: int) -> tuple[SymbioticModel, Any]:
    return build(tiny(**{"model.backbone.scratch.max_position_embeddings": positions}))


def test_cut_prompts_are_counted(tmp_path: Path) -> None:
    task = Mmlu(task="mmlu", data=str(write_mmlu(tmp_path / "mmlu", {"anatomy": 2})), shots=1)
    [cut] = evaluate(OpenModel(*narrow(64)), [task])
    assert cut.circumstances["truncated"] == 8  # two questions, four choices each
    assert "8 request(s) lost tokens on the left: longer than the model's 64 positions" in cut.warnings
    [whole] = evaluate(OpenModel(*build(tiny())), [task])
    assert whole.circumstances["truncated"] == 0
    assert not any("lost tokens" in warning for warning in whole.warnings)


def test_questions_that_do_not_fit_are_refused_before_any_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_rendered(tiny().data.sources["read"], "read", 0, 2, tmp_path / "data")
    task = OcrBench(task="ocrbench", data=str(file))
    monkeypatch.setattr("smoe_cli.eval.opening.readers.OwnReader.answer", lambda *arguments: pytest.fail("asked"))
    # <bos> <image> 4 tokens </image>, and 128 of the answer
    with pytest.raises(UserError, match=r"row 1: 7 tokens of prompt and image and 128 of the answer do not fit .* 134 pos"):
        evaluate(OpenModel(*narrow(134)), [task])
    monkeypatch.setattr("smoe_cli.eval.opening.readers.OwnReader.answer", lambda self, images, questions, longest: questions)
    assert len(evaluate(OpenModel(*narrow(135)), [task])[0].predictions) == 2


def test_a_model_that_cannot_read_images() -> None:
    changes = READING_ONLY | {
        "model.vision": None,
        "model.groups": [{"name": "all", "modalities": ["text"], "experts": 6}],
        "phases.0.mixture": {"prose": 1},
    }
    blind = build(tiny(**changes))
    with pytest.raises(UserError, match="the model of `tiny` cannot read images"):
        evaluate(OpenModel(*blind), [RENDERED])

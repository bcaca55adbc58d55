"""Plain models of transformers that see images, with their own processors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from smoe_cli.cli.main import run
from smoe_cli.errors import UserError
from smoe_cli.eval.opening.locate import open_to_measure
from smoe_cli.recipe.dump import resolved_yaml
from tests.eval.opening.sighted import (
    FAMILY_PROCESSORS,
    SIDE,
    TEMPLATE,
    edit,
    picture,
    write_family,
    write_idefics3,
    write_llava,
    write_questions,
)
from tests.eval.tiny import write_mmlu
from tests.families.tiny import write_checkpoint
from tests.model.seeing import seeing

WRITERS: dict[str, Callable[[Path], Path]] = {
    "llava": write_llava,
    "idefics3": write_idefics3,
    **{family: lambda folder, family=family: write_family(folder, family) for family in FAMILY_PROCESSORS},
}
NUMPY = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"  # in processors of transformers
QUESTIONS = ["what?", "a longer question", "x"]


@pytest.fixture(scope="module", params=list(WRITERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "idefics3" and getattr(transformers.Idefics3ImageProcessorPil, "is_dummy", False):
        pytest.skip("this transformers offers Idefics3's image processor with torchvision only")
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param) / request.param)


@pytest.mark.filterwarnings(NUMPY)
def test_answers_do_not_depend_on_the_batch_and_leave_no_trace(folder: Path) -> None:
    """Prompts of different lengths, alone and padded; and texts scored before and after are scored alike."""
    opened = open_to_measure(folder)
    assert opened.kind == opened.identity["kind"] == "image-text-to-text"
    reader, requests = opened.reader("ocrbench"), [((5, 6, 7), (8,)), ((9, 10), (8, 9))]
    before, settings = opened.scorer(2).log_likelihoods(requests), opened.model.generation_config
    images = [picture(i) for i in range(len(QUESTIONS))]
    together = reader.answer(images, QUESTIONS, 8)
    assert len(set(together)) > 1
    assert together == [reader.answer([image], [question], 8)[0] for image, question in zip(images, QUESTIONS, strict=True)]
    assert opened.scorer(2).log_likelihoods(requests) == before
    assert opened.model.generation_config is settings


@pytest.mark.filterwarnings(NUMPY)
def test_greedy_is_the_likeliest_token_again_and_again(folder: Path) -> None:
    """The slow way: the whole sequence anew for each token, without a cache."""
    opened = open_to_measure(folder)
    reader: Any = opened.reader("ocrbench")
    inputs = dict(reader._inputs("it", [picture(0)], ["what?"], 6))
    start = inputs["input_ids"].shape[1]
    more = {"input_ids": None, "attention_mask": 1, "mm_token_type_ids": 0, "moe_mm_token_type_ids": 0, "token_type_ids": 0}
    with torch.inference_mode():
        for _ in range(6):
            token = opened.model(**inputs, use_cache=False).logits[:, -1:].argmax(-1)
            for name in inputs.keys() & more.keys():
                added = token if more[name] is None else torch.full_like(token, more[name])
                inputs[name] = torch.cat([inputs[name], added.to(inputs[name])], 1)
    ids = inputs["input_ids"][0, start:].tolist()
    ids = ids[: ids.index(2)] if 2 in ids else ids
    expected = opened.tokenizer.decode(ids, skip_special_tokens=True)
    assert reader.answer([picture(0)], ["what?"], 6) == [expected]


def measured(model: Path, mmlu: Path, questions: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    """Results of the command line, and what was answered to each question."""
    out, predictions = model.with_suffix(".json"), model.with_suffix(".jsonl")
    data = ["--data", f"mmlu={mmlu}", "--data", f"ocrbench={questions}", "--shots", "0"]
    files = ["--json", str(out), "--predictions", str(predictions)]
    assert run(["eval", str(model), "--tasks", "mmlu,ocrbench", *data, *files]) == 0
    lines = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    answers = [line["log_likelihoods"] if line["task"] == "mmlu" else line["prediction"] for line in lines]
    return json.loads(out.read_text(encoding="utf-8")), answers


@pytest.mark.filterwarnings(NUMPY)
@pytest.mark.parametrize("family", FAMILY_PROCESSORS)
def test_a_checkpoint_and_its_conversion_are_measured_alike(family: str, tmp_path: Path) -> None:
    """With one group, the same weights answer the same, bit for bit, whichever code asks them; on the way back too."""
    plain, symbiotic, back = (tmp_path / name for name in ("plain", "symbiotic", "back"))
    recipe = seeing(write_family(plain, family), family, **{"model.vision": {"family": "own", "image_size": [SIDE, SIDE]}})
    (tmp_path / "recipe.yaml").write_text(resolved_yaml(recipe), encoding="utf-8")
    assert run(["convert", str(tmp_path / "recipe.yaml"), str(symbiotic), "--to", "symbiotic"]) == 0
    assert run(["convert", str(symbiotic), str(back), "--to", "original"]) == 0
    data = write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 2}), write_questions(tmp_path / "ocr")
    before, asked = measured(plain, *data)
    after, again = measured(symbiotic, *data)
    assert len(asked) == 10
    assert again == asked
    assert [result["correct"] for result in before] == [result["correct"] for result in after]
    assert (before[0]["model"]["kind"], after[0]["model"]["kind"]) == ("image-text-to-text", "symbiotic")
    assert before[1]["protocol"]["image"]["image_processor"].endswith("Pil")
    returned, answers = measured(back, *data)
    assert answers == asked
    assert [result["protocol"] for result in returned] == [result["protocol"] for result in before]
    assert returned[0]["model"]["sha256"] == before[0]["model"]["sha256"]


def test_what_the_protocol_says_of_images(tmp_path: Path) -> None:
    llava = open_to_measure(write_llava(tmp_path / "llava", TEMPLATE)).reader("ocrbench").preprocessing
    assert llava["processor"] == "LlavaProcessor"
    assert llava["size"] == {"shortest_edge": SIDE}
    assert len(llava["chat_template_sha256"]) == 64
    json.dumps(llava)
    without = open_to_measure(write_llava(tmp_path / "other")).reader("ocrbench").preprocessing
    assert without == {**llava, "chat_template_sha256": None}


def test_end_to_end_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llava, questions = write_llava(tmp_path / "llava"), write_questions(tmp_path / "ocr")
    assert run(["eval", str(llava), "--tasks", "ocrbench", "--data", str(questions), "--batch-size", "2", "--json", "-"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["total"] == 5
    assert result["protocol"]["image"]["processor"] == "LlavaProcessor"
    assert run(["eval", str(llava), "--tasks", "mmlu", "--data", str(write_mmlu(tmp_path / "mmlu", {"anatomy": 2}))]) == 0
    assert "mmlu" in capsys.readouterr().out


def test_the_prompt(tmp_path: Path) -> None:
    """Of a template its own first token only; without one the tokenizer's, the image and the question."""
    for template, expected in ((None, "<picture>what?"), ("<bos>Q {{ messages[0].content[1].text }}<picture>", "<bos>Q what?")):
        folder = write_llava(tmp_path / str(template is None), template)
        reader: Any = open_to_measure(folder).reader("ocrbench")
        reader.processor.tokenizer.backend_tokenizer.post_processor = _begins_with_bos()
        ids = reader._inputs("it", [picture(0)], ["what?"], 1)["input_ids"][0].tolist()
        assert ids.count(1) == 1
        assert ids[0] == 1
        assert ids.count(262) == 16
        assert reader.processor.tokenizer.decode([i for i in ids if i not in (1, 262)]) == expected.replace(
            "<picture>", ""
        ).replace("<bos>", "")


def _begins_with_bos() -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])


def test_questions_that_cannot_be_asked(tmp_path: Path) -> None:
    reader = open_to_measure(write_llava(tmp_path / "llava")).reader("ocrbench")
    with pytest.raises(UserError, match=r"question 'is <picture> a token.*LlavaProcessor refuses this question or its image"):
        reader.answer([picture(0)], ["is <picture> a token?"], 4)
    with pytest.raises(UserError, match=r"^row 7: LlavaProcessor refuses this question or its image"):
        reader.check("row 7", picture(0), "is <picture> a token?", 4)
    with pytest.raises(
        UserError, match="521 tokens of prompt and image and 4 of the answer do not fit the model's 512 positions"
    ):
        reader.answer([picture(0)], ["y" * 505], 4)
    qwen = open_to_measure(write_family(tmp_path / "qwen", "qwen3_vl_moe")).reader("ocrbench")
    with pytest.raises(UserError, match="aspect ratio must be smaller than 200"):
        qwen.answer([Image.new("RGB", (4000, 8))], ["what?"], 4)


def test_folders_whose_files_do_not_fit_each_other(tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "llava", "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UserError, match="LlavaProcessor refuses this question or its image: roles must alternate"):
        open_to_measure(folder).reader("ocrbench").answer([picture(0)], ["what?"], 4)
    (folder / "chat_template.jinja").unlink()
    edit(folder / "config.json", image_token_index=261)
    with pytest.raises(UserError, match="LlavaForConditionalGeneration refuses what its processor made of it: Image features"):
        open_to_measure(folder).reader("ocrbench").answer([picture(0)], ["what?"], 4)


def test_a_model_that_sees_without_a_processor_still_reads(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3_vl_moe", tmp_path / "qwen")
    opened = open_to_measure(folder)
    assert len(opened.scorer(1).log_likelihoods([((5,), (6,))])) == 1
    with pytest.raises(UserError, match=r"qwen: cannot be shown images: it has neither processor_config\.json nor preproc"):
        opened.reader("ocrbench")
    both = open_to_measure(write_checkpoint("qwen3_5_moe", tmp_path / "both"))  # of both kinds: its language model alone
    assert (both.kind, type(both.model).__name__) == ("causal-lm", "Qwen3_5MoeForCausalLM")
    with pytest.raises(UserError, match="a plain language model does not see"):
        both.reader("ocrbench")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"processor_class": "NoSuchProcessor"}, "this transformers has no processor `NoSuchProcessor`"),
        ({"processor_class": "PixtralProcessor"}, "PixtralProcessor requires the Torchvision library"),
        ({"image_processor_type": "NoSuchImageProcessor"}, "its processor cannot be loaded"),
    ],
)
def test_processors_that_cannot_be_loaded(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path / "qwen", "qwen3_vl_moe")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        open_to_measure(folder).reader("ocrbench")
    assert ("torchvision" in str(caught.value.help)) == ("Torchvision" in message)

"""Plain folders of transformers: any causal language model is scored; damaged folders and other models are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from smoe_cli.cli.main import run
from smoe_cli.errors import UserError
from smoe_cli.eval.opening.locate import open_to_measure
from smoe_cli.eval.opening.plain import open_plain
from tests.eval.opening.sighted import edit
from tests.eval.tiny import byte_tokenizer, write_mmlu
from tests.families.tiny import write_checkpoint

KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
}


@pytest.mark.parametrize(("kind", "positions"), list(zip(KINDS, (128, 2048, 2048, 2048), strict=True)))
def test_any_causal_model_is_scored(kind: str, positions: int, tmp_path: Path) -> None:
    """As if each request were run alone; models without an end of their positions read as many as in lm-evaluation-harness."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=300, **KINDS[kind]))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / kind)
    byte_tokenizer().save_pretrained(tmp_path / kind)
    opened = open_to_measure(tmp_path / kind)
    scorer, requests = opened.scorer(2), [((5, 6, 7, 90, 91), (8,)), ((9, 10), (8, 9)), ((33, 71, 5, 6, 7, 8, 9, 1), (8, 77))]
    assert scorer.max_length == positions
    expected = []
    for context, continuation in requests:
        with torch.inference_mode():
            logits = opened.model(input_ids=torch.tensor([[*context, *continuation]])).logits[0]
        rows = logits.float().log_softmax(-1)[len(context) - 1 : -1]
        expected.append(sum(float(row[token]) for row, token in zip(rows, continuation, strict=True)))
    assert scorer.log_likelihoods(requests) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint("qwen3", tmp_path_factory.mktemp("plain") / "qwen3")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"no tokenizer\.json, nor another file with a tokenizer's voc"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: not readable as JSON"),
        (lambda folder: edit(folder / "config.json", model_type=None), "has no `model_type`"),
        (lambda folder: edit(folder / "config.json", model_type="qwen9"), "this transformers has no model `qwen9`"),
        (
            lambda folder: edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "code.Config"}),
            "no model `own` and runs none of the model's own code",
        ),
        (lambda folder: edit(folder / "config.json", hidden_size="wide"), "transformers cannot load this model"),
        (
            lambda folder: edit(folder / "config.json", num_hidden_layers=4, layer_types=None),
            r"lacks the tensor `model\.layers\.3\..*, and \d+ more",
        ),
        (
            lambda folder: edit(folder / "config.json", intermediate_size=44),
            r"its tensor `model\.layers\.0\.mlp\.down_proj\.weight` is of another shape",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights in safetensors files"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100]),
            r"model\.safetensors: ",
        ),
    ],
)
def test_damaged_folders(
    damage: Callable[[Path], object], message: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(whole, tmp_path / "copy")
    open_plain(folder)
    capsys.readouterr()
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        open_plain(folder)
    assert str(folder) in str(caught.value)
    assert run(["eval", str(folder), "--tasks", "mmlu", "--data", str(write_mmlu(tmp_path / "mmlu", {"anatomy": 1}))]) == 2
    printed = capsys.readouterr().err
    assert "error: " in printed
    assert "Traceback" not in printed


def test_models_of_other_kinds(tmp_path: Path) -> None:
    sizes = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained(tmp_path / "bert")
    small = {"vocab_size": 300, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(**small)).save_pretrained(tmp_path / "t5")
    for name, written in (("bert", "BertForMaskedLM"), ("t5", "T5ForConditionalGeneration")):
        byte_tokenizer().save_pretrained(tmp_path / name)
        with pytest.raises(UserError, match=rf"a `{name}` model \(written as {written}\) does not continue texts"):
            open_plain(tmp_path / name)

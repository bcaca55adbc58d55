from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.prose import passages
from smoe_cli.data.tokenizer import TextEncoder
from smoe_cli.errors import UserError
from smoe_cli.eval.text.bits import evaluate_bits, windows
from smoe_cli.eval.text.bits_data import load_texts
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.recipe.measures import BitsPerByte
from smoe_cli.recipe.models import PythonDocs
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe

TEXTS = ["naïve 光", "a", "the wind <eos> and the rain, the rain and the wind", "four", "\n\t 🙂"]


def slow(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, text: str, window: int) -> float:
    """Bits of a text, one forward pass a token: each sees all before it that a window which ends with it holds."""
    ids = [tokenizer.bos_token_id, *TextEncoder(tokenizer)(text)]
    bits = 0.0
    for at in range(1, len(ids)):
        first = (at - 1) // window * window  # of its window: the token before the first one that is predicted
        last = min(first + window, len(ids) - 1)
        start = first if first == 0 or last - first == window else last - window
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids[start:at]])).logits[0, -1].double()
        bits -= torch.log_softmax(logits, -1)[ids[at]].item() / math.log(2)
    return bits


@pytest.mark.parametrize("window", [1, 7, 200])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_bits_are_those_of_one_forward_pass_a_token(window: int, batch_size: int) -> None:
    model, tokenizer = tiny_qwen2_moe(), byte_tokenizer()
    found = evaluate_bits(BatchedScorer(model, 4096, batch_size), tokenizer, TEXTS, window)
    each = [slow(model, tokenizer, text, window) for text in TEXTS]
    size = sum(len(text.encode()) for text in TEXTS)
    counted = {"bytes": size, "tokens": size, "texts": len(TEXTS), "first_token_after": "<bos>"}
    assert found.details == {"bits": pytest.approx(sum(each), abs=1e-3), **counted}
    assert found.main.value == found.details["bits"] / size
    assert [one.value for one in found.predictions] == pytest.approx(each, abs=1e-3)


@pytest.mark.parametrize("length", [1, 4, 5, 9, 10, 12])
def test_every_token_is_predicted_once_from_what_stands_before_it(length: int) -> None:
    ids = list(range(100, 100 + length))
    requests = list(windows(ids, 7, 5))
    assert [token for _, predicted in requests for token in predicted] == ids
    for seen, predicted in requests:
        assert 0 < len(predicted) <= 5 < len(seen) + len(predicted) + 5
        assert len(seen) + len(predicted) <= 6  # a window of inputs, and the last token, which is not read
        before = [7, *ids][: 1 + ids.index(predicted[0])]
        assert before[-len(seen) :] == list(seen)


def test_windows_are_the_harness_s() -> None:
    utils = pytest.importorskip("lm_eval.utils")
    for length in (1, 4, 5, 9, 10, 12):
        ids = list(range(100, 100 + length))
        rolling = utils.get_rolling_token_windows(ids, prefix_token=7, max_seq_len=5, context_len=1)
        assert [tuple(map(list, w)) for w in map(utils.make_disjoint_window, rolling)] == [
            (list(seen), predicted) for seen, predicted in windows(ids, 7, 5)
        ]


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary() -> None:
    model = tiny_qwen2_moe()
    torch.nn.init.zeros_(model.lm_head.weight)
    result = evaluate_bits(BatchedScorer(model, 4096, 4), byte_tokenizer(), TEXTS, 16)
    assert result.main.value == pytest.approx(math.log2(261), abs=1e-5)
    assert result.main.standard_error == pytest.approx(0, abs=1e-5)


def test_standard_error_is_that_of_a_ratio() -> None:
    class Fixed:
        """One, two, three, … nats a request."""

        def log_likelihoods(self, requests: object) -> list[float]:
            return [-float(index + 1) for index, _ in enumerate(requests)]  # type: ignore[arg-type]

    found = evaluate_bits(Fixed(), byte_tokenizer(), ["ab", "cd", "efgh"], 100).main
    assert found.standard_error is not None
    ratio = 6 / 8
    spread = sum((b - ratio * n) ** 2 for b, n in ((1, 2), (2, 2), (3, 4)))
    assert found.standard_error == pytest.approx(math.sqrt(spread * 3 / 2) / 8 / math.log(2))
    single = evaluate_bits(Fixed(), byte_tokenizer(), ["ab"], 100).main
    assert single.standard_error is None


def test_the_result_has_no_share() -> None:
    result = evaluate_bits(BatchedScorer(tiny_qwen2_moe(), 4096, 4), byte_tokenizer(), TEXTS, 16)
    written = json.loads(json.dumps(result.to_dict()))
    assert (written["score"], written["correct"], written["total"]) == (None, None, None)
    metric = written["metrics"]["bits_per_byte"]
    assert (metric["value"], metric["better"]) == (result.main.value, "lower")
    assert written["protocol"]["window"] == 16


def test_held_out_passages_of_a_source() -> None:
    sources = {"prose": PythonDocs(kind="python-docs", task="lm", split="train")}
    found = load_texts(BitsPerByte(task="bits-per-byte", source="prose"), sources)
    assert found == passages("heldout")


def test_rows_of_a_file_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS), encoding="utf-8")
    found = load_texts(BitsPerByte(task="bits-per-byte", data=str(file), column="body"), {})
    assert found == tuple(TEXTS)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"body": "a"}\n{"body": 3}\n')
    with pytest.raises(UserError, match=r"row 1 of .*texts.jsonl.*no column \"text\""):
        load_texts(BitsPerByte(task="bits-per-byte", data=str(file)), {})
    with pytest.raises(UserError, match=r"row 2 of .*texts.jsonl.*not text"):
        load_texts(BitsPerByte(task="bits-per-byte", data=str(file), column="body"), {})
    with pytest.raises(UserError, match="no such file"):
        load_texts(BitsPerByte(task="bits-per-byte", data=str(tmp_path / "none.jsonl")), {})
    with pytest.raises(UserError, match="`prose` is not a `python-docs` source") as caught:
        load_texts(
            BitsPerByte(task="bits-per-byte", source="prose"), {"prose": PythonDocs(kind="python-docs", task="lm", split="all")}
        )
    assert "sources that can be used: none" in str(caught.value)

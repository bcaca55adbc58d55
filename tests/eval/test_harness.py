"""Promise 9 against lm-evaluation-harness itself (0.4.13), where it is installed: `pip install lm-eval==0.4.13`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from smoe_cli.eval.arc import arc_prompt, evaluate_arc
from smoe_cli.eval.arc_data import load_arc
from smoe_cli.eval.likelihood import BatchedScorer
from smoe_cli.eval.mmlu import CONTINUATIONS, encode, evaluate_mmlu, prompt
from smoe_cli.eval.mmlu_data import load_mmlu
from smoe_cli.eval.questions import best

from .tiny import byte_tokenizer, tiny_qwen2_moe, write_arc, write_mmlu

SUBJECTS = {"abstract_algebra": 6, "high_school_us_history": 5, "virology": 4}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def harness_task(subject: str, folder: Path) -> Any:
    """The harness's own task, reading our files instead of the hub's."""
    from lm_eval import tasks
    from lm_eval.api.task import ConfigurableTask

    own = Path(tasks.__file__).parent / "mmlu" / "default"
    config = yaml.safe_load((own / "_default_template_yaml").read_text(encoding="utf-8"))
    config |= {
        k: v
        for k, v in yaml.safe_load((own / f"mmlu_{subject}.yaml").read_text(encoding="utf-8")).items()
        if k in ("task", "description")
    }
    files = {split: str(folder / subject / f"{split}.jsonl") for split in ("dev", "test")}
    return ConfigurableTask(config={**config, "dataset_path": "json", "dataset_kwargs": {"data_files": files}})


@pytest.mark.parametrize(("shots", "max_length"), [(0, 4096), (5, 4096), (5, 300)])
def test_prompts_scores_and_accuracy_are_the_harness_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shots: int, max_length: int
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    folder = write_mmlu(tmp_path / "mmlu", SUBJECTS)
    model, tokenizer = tiny_qwen2_moe(max_length), byte_tokenizer()
    data, ours = load_mmlu(folder, shots), BatchedScorer(model, max_length, 8)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu", softmax_dtype="float32")
    assert harness.max_length == max_length
    correct = 0
    for subject in data.subjects:
        task = harness_task(subject.name, folder)
        report = simple_evaluate(model=harness, tasks=[task], num_fewshot=shots, bootstrap_iters=0, log_samples=True)
        samples = sorted(next(iter(report["samples"].values())), key=lambda sample: sample["doc_id"])
        for question, sample in zip(subject.test, samples, strict=True):
            text = prompt(subject.name, question, subject.dev[:shots])
            assert text == sample["arguments"][0][0]
            scores = ours.log_likelihoods([encode(tokenizer, text, continuation) for continuation in CONTINUATIONS])
            assert scores == pytest.approx([float(response[0][0]) for response in sample["resps"]], abs=1e-4)
            assert (best(scores) == question.answer) == bool(sample["acc"])
            correct += int(sample["acc"])
    assert evaluate_mmlu(ours, tokenizer, data, shots).total.correct == correct


def test_arc_easy_is_the_harness_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from lm_eval import tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    data = load_arc(write_arc(tmp_path / "arc", 12))
    model, tokenizer = tiny_qwen2_moe(), byte_tokenizer()
    config = yaml.safe_load((Path(tasks.__file__).parent / "arc" / "arc_easy.yaml").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key.startswith(("task", "doc", "output", "metric", "metadata"))}
    files = {"data_files": {"test": str(data.files[0])}}
    task = ConfigurableTask(config={**config, "test_split": "test", "dataset_path": "json", "dataset_kwargs": files})
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu", softmax_dtype="float32")
    report = simple_evaluate(model=harness, tasks=[task], num_fewshot=0, bootstrap_iters=0, log_samples=True)
    samples = sorted(next(iter(report["samples"].values())), key=lambda sample: sample["doc_id"])
    ours = evaluate_arc(BatchedScorer(model, 4096, 8), tokenizer, data)
    for question, asked, sample in zip(data.questions, ours.asked, samples, strict=True):
        assert sample["arguments"][0] == (arc_prompt(question), f" {question.choices[0]}")
        assert asked.log_likelihoods == pytest.approx([float(response[0][0]) for response in sample["resps"]], abs=1e-4)
        assert (asked.chosen == asked.answer) == bool(sample["acc"])
    assert ours.normalised is not None
    assert (ours.total.correct, ours.normalised.correct) == tuple(
        sum(sample[k] for sample in samples) for k in ("acc", "acc_norm")
    )

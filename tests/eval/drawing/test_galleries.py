from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.galleries import LAYOUTS, SETTINGS, Gallery
from smoe_cli.eval.drawing.generation import draw_gallery, draw_to_files
from smoe_cli.recipe.models import Sampling
from tests.eval.folders import build
from tests.helpers import tiny

SAMPLING = Sampling(steps=2, guidance=2.0)
GENEVAL = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 2}], "exclude": [], "prompt": "a photo of two cows"},
]
COMPBENCH = ["a green bench and a blue bowl", "a red book. \tattribute", "", "a green bench and a blue bowl"]


@pytest.fixture(scope="module")
def pair() -> tuple:
    return build(tiny())


def prompts(folder: Path, layout: str) -> Path:
    path = folder / "prompts"
    lines = COMPBENCH if layout == "t2i-compbench" else [json.dumps(row) for row in GENEVAL]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def gallery(folder: Path, layout: str, **change: Any) -> Gallery:
    settings = {"count": 2, "sampling": SAMPLING, "seed": 5, "model_sha256": "ab"} | change
    return Gallery(folder / "out", layout, prompts(folder, layout), **settings)


def as_geneval_reads(root: Path) -> list[tuple[str, str, Path]]:
    """(tag, prompt, picture), by the walk of GenEval's evaluation/evaluate_images.py."""
    found = []
    for name in sorted(os.listdir(root)):
        if not (root / name).is_dir() or not name.isdigit():
            continue
        metadata = json.loads((root / name / "metadata.jsonl").read_text(encoding="utf-8"))
        for picture in sorted(os.listdir(root / name / "samples")):
            if re.match(r"\d+\.png", picture):
                found.append((metadata["tag"], metadata["prompt"], root / name / "samples" / picture))
    return found


def as_compbench_reads(root: Path) -> list[tuple[int, str]]:
    """(number, prompt), by the walk of T2I-CompBench's BLIPvqa_eval/BLIP_vqa.py; every file there is taken for a picture."""
    names = sorted(os.listdir(root / "samples"), key=lambda name: int(name.split("_")[-1].split(".")[0]))
    return [(int(name.split("_")[-1].split(".")[0]), name.split("_")[0]) for name in names]


def test_geneval_finds_prompts_and_pictures(pair: tuple, tmp_path: Path) -> None:
    written = list(draw_gallery(*pair, gallery(tmp_path, "geneval")))
    found = as_geneval_reads(tmp_path / "out")
    assert [(tag, prompt) for tag, prompt, _ in found] == [(row["tag"], row["prompt"]) for row in GENEVAL for _ in range(2)]
    assert [path for _, _, path in found] == written
    assert json.loads((tmp_path / "out/00001/metadata.jsonl").read_text()) == GENEVAL[1]
    with Image.open(written[3]) as picture:
        told = [picture.text[name] for name in ("prompt", "seed", "model_sha256")]
        assert told == ["a photo of two cows", "6", "ab"]


def test_compbench_finds_prompts_and_pictures(pair: tuple, tmp_path: Path) -> None:
    list(draw_gallery(*pair, gallery(tmp_path, "t2i-compbench")))
    bench, book = "a green bench and a blue bowl", "a red book. "
    assert as_compbench_reads(tmp_path / "out") == list(enumerate([bench, bench, book, book, bench, bench]))


def test_pictures_are_those_that_are_drawn_alone(pair: tuple, tmp_path: Path) -> None:
    first, second, *_ = draw_gallery(*pair, gallery(tmp_path, "geneval"))
    alone = list(draw_to_files(*pair, ["a photo of a bench"], tmp_path / "alone", SAMPLING, 5, 2, "ab"))
    assert [first.read_bytes(), second.read_bytes()] == [path.read_bytes() for path in alone]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_folder_is_gone_on_with(pair: tuple, tmp_path: Path, layout: str) -> None:
    (tmp_path / "whole").mkdir()
    whole = list(draw_gallery(*pair, gallery(tmp_path / "whole", layout)))
    some = draw_gallery(*pair, gallery(tmp_path, layout))
    begun = [next(some), next(some), next(some)]
    some.close()
    before = [path.stat().st_mtime_ns for path in begun]
    rest = list(draw_gallery(*pair, gallery(tmp_path, layout)))
    assert [path.stat().st_mtime_ns for path in begun] == before
    assert [path.read_bytes() for path in begun + rest] == [path.read_bytes() for path in whole]
    assert list(draw_gallery(*pair, gallery(tmp_path, layout))) == []
    here, there = tmp_path / "out", tmp_path / "whole" / "out"
    assert {path.relative_to(here) for path in here.rglob("*")} == {path.relative_to(there) for path in there.rglob("*")}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 6}, "seed"),
        ({"count": 3}, "count"),
        ({"model_sha256": "cd"}, "model_sha256"),
        ({"sampling": Sampling(steps=3)}, "sampling"),
    ],
)
def test_what_is_drawn_otherwise_is_never_mixed_in(pair: tuple, tmp_path: Path, change: dict[str, Any], name: str) -> None:
    next(draw_gallery(*pair, gallery(tmp_path, "geneval")))
    with pytest.raises(UserError, match=f"holds drawings with another `{name}`"):
        gallery(tmp_path, "geneval", **change)
    with pytest.raises(UserError, match="another `layout`"):
        gallery(tmp_path, "t2i-compbench")


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    gallery(tmp_path, "geneval")  # an empty one will do
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty, and not a gallery"):
        gallery(tmp_path, "geneval")
    (tmp_path / "out" / SETTINGS).write_text("{")
    with pytest.raises(UserError, match=r"smoe\.json: cannot be read"):
        gallery(tmp_path, "geneval")
    (tmp_path / "out" / SETTINGS).write_text("[]")
    with pytest.raises(UserError, match="another `layout`: null"):
        gallery(tmp_path, "geneval")


def test_the_benchmarks_own_numbers_of_pictures(tmp_path: Path) -> None:
    assert [gallery(tmp_path, layout, count=None).count for layout in ("geneval", "t2i-compbench")] == [4, 10]


@pytest.mark.parametrize(
    ("layout", "line", "message"),
    [
        ("geneval", "a photo of a bench", "prompts:2: Expecting value"),
        ("geneval", "[1]", "prompts:2: not a JSON object"),
        ("geneval", '{"prompt": "a bench"}', "prompts:2: no `tag`"),
        ("geneval", '{"prompt": " ", "tag": "colors"}', "prompts:2: the prompt is empty"),
        ("t2i-compbench", "half/full", "prompts:2: the prompt becomes a file name, and holds '/'"),
        ("t2i-compbench", "snake_case", "prompts:2: .* at which T2I-CompBench cuts"),
        ("t2i-compbench", "é" * 130, "prompts:2: .* too long"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path: Path, layout: str, line: str, message: str) -> None:
    path = tmp_path / "prompts"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        Gallery(tmp_path / "out", layout, path, 1, SAMPLING, 0, "")
    assert not (tmp_path / "out").exists()


def test_a_prompt_may_hold_a_line_separator(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text('{"prompt": "a\u2028b", "tag": "colors"}\r\n', encoding="utf-8", newline="")
    made = Gallery(tmp_path / "out", "geneval", tmp_path / "prompts", 1, SAMPLING, 0, "")
    assert [prompt.text for prompt in made.prompts] == ["a\u2028b"]


def test_files_of_prompts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Gallery(tmp_path / "out", "geneval", tmp_path / "nothing", 1, SAMPLING, 0, "")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UserError, match="no prompts"):
        Gallery(tmp_path / "out", "geneval", tmp_path / "empty", 1, SAMPLING, 0, "")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(UserError, match="cannot be read"):
        Gallery(tmp_path / "out", "geneval", tmp_path / "latin", 1, SAMPLING, 0, "")

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.generation import answer_about, check_draws, draw_to_files, drawing_prompts, open_image, slug
from smoe_cli.recipe.models import Sampling
from tests.eval.folders import READING_ONLY, build
from tests.helpers import tiny

SAMPLING = Sampling(steps=2, guidance=2.0)
HASH = "0123abcd"


@pytest.fixture(scope="module")
def pair() -> tuple:
    return build(tiny())


def test_one_file_for_each_prompt_and_seed(pair: tuple, tmp_path: Path) -> None:
    paths = list(draw_to_files(*pair, ["42", "a b"], tmp_path / "out", SAMPLING, 5, 2, HASH))
    assert [path.name for path in paths] == ["42-seed5.png", "a-b-seed5.png", "42-seed6.png", "a-b-seed6.png"]
    with Image.open(paths[1]) as image:
        assert image.size == (16, 8)
        assert image.text == {
            "prompt": "a b",
            "seed": "5",
            "steps": "2",
            "guidance": "2.0",
            "guidance_interval": "[0.4, 1.0]",
            "renormalise": "false",
            "shift": "3.0",
            "model_sha256": HASH,
        }
    assert open_image(paths[0]).tobytes() != open_image(paths[2]).tobytes()


def test_same_seed_same_picture_in_a_new_file(pair: tuple, tmp_path: Path) -> None:
    first, second = (next(draw_to_files(*pair, ["42"], tmp_path, SAMPLING, 5, 1, HASH)) for _ in range(2))
    assert (first.name, second.name) == ("42-seed5.png", "42-seed5-2.png")
    assert first.read_bytes() == second.read_bytes()
    third = list(draw_to_files(*pair, ["42"], tmp_path, SAMPLING, 4, 2, HASH))[1]  # a count starts anywhere
    assert third.read_bytes() == first.read_bytes()


def test_a_picture_does_not_depend_on_its_neighbours(pair: tuple, tmp_path: Path) -> None:
    """Longer neighbours also pad the prompt, which must not change a bit either."""
    [alone] = draw_to_files(*pair, ["509"], tmp_path / "alone", SAMPLING, 5, 1, HASH)
    _, second = draw_to_files(*pair, ["a longer prompt", "509"], tmp_path / "both", SAMPLING, 5, 1, HASH)
    assert second.read_bytes() == alone.read_bytes()
    assert len({path.read_bytes() for path in draw_to_files(*pair, ["509"], tmp_path / "c", SAMPLING, 5, 3, HASH)}) == 3


def test_a_folder_that_cannot_be_written(pair: tuple, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        list(draw_to_files(*pair, ["42"], tmp_path / "file", SAMPLING, 0, 1, HASH))


def test_prompts_and_models_that_cannot_draw() -> None:
    own = tiny(**{"training.sampling": {"prompts": ["7"]}})
    assert drawing_prompts(own, ()) == ("7",)
    assert drawing_prompts(own, ("8", "9")) == ("8", "9")
    with pytest.raises(UserError, match="nothing to draw"):
        drawing_prompts(tiny(), ())
    with pytest.raises(UserError, match="the model of `tiny` cannot draw"):
        check_draws(tiny(**READING_ONLY))
    check_draws(own)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("Hello, World!", "hello-world"),
        ("../../etc", "etc"),
        ("", "image"),
        ("光 7", "光-7"),
        ("x" * 99, "x" * 40),
        ("x" * 39 + " y", "x" * 39),
    ],
)
def test_slug(prompt: str, name: str) -> None:
    assert slug(prompt) == name


def test_answers(pair: tuple, tmp_path: Path) -> None:
    Image.new("L", (20, 10), 90).save(tmp_path / "a.png")
    answers = answer_about(*pair, open_image(tmp_path / "a.png"), ["", "What?"], 4)
    assert [type(answer) for answer in answers] == [str, str]


@pytest.mark.parametrize(("content", "message"), [(None, "no image file"), (b"x", "cannot be read")])
def test_image_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_image(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in caught.value.message

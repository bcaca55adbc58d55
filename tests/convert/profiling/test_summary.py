"""The table and the heat map of a profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smoe_cli.convert.profiling.figure import draw, load
from smoe_cli.convert.profiling.summary import Summary, reachable, summarise
from smoe_cli.plan.profile import Counted, Counts, Profile


def made(counts: dict[str, Counts], top_k: int = 1, pools: tuple[int, ...] = ()) -> Profile:
    """A profile with these counts."""
    layers, experts = len(next(iter(counts.values()))), len(next(iter(counts.values()))[0])
    tokens = {m: sum(rows[0]) // top_k for m, rows in counts.items()}
    mass = {m: tuple(tuple(map(float, row)) for row in rows) for m, rows in counts.items()}
    data = {"key": Counted("/data/mmlu", 5, 5)}
    return Profile("olmoe", None, tuple(range(layers)), experts, top_k, tokens, counts, mass, data, "models/m", pools=pools)


def drawn(layers: int, experts: int, modalities: int = 2) -> Profile:
    counts = np.random.default_rng(0).multinomial(10_000, np.full(experts, 1 / experts), size=(modalities, layers))
    names = ("text", "vit", "vae")[:modalities]
    return made({m: tuple(tuple(map(int, row)) for row in rows) for m, rows in zip(names, counts, strict=True)})


def test_shares_of_the_most_used_experts() -> None:
    profile = made({"text": ((4, 3, 2, 1), (10, 0, 0, 0)), "vit": ((1, 1, 1, 1), (2, 2, 0, 0))})
    text, vit = summarise(profile)
    assert text == Summary("text", 10, ((0.4 + 1) / 2, (0.7 + 1) / 2, (0.9 + 1) / 2), 3, 8)
    assert vit == Summary("vit", 4, ((0.25 + 0.5) / 2, (0.5 + 1) / 2, (0.75 + 1) / 2), 2, 8)
    assert text.to_dict()["taken"] == {"0.25": 0.7, "0.5": 0.85, "0.75": 0.95}


def test_experts_of_another_pool_are_not_dead() -> None:
    profile = made({"text": ((3, 1, 0, 0),), "vit": ((0, 0, 0, 4),)}, pools=(2, 2))
    text, vit = summarise(profile)
    assert (text.dead, text.of) == (0, 2)
    assert (vit.dead, vit.of) == (1, 2)
    assert reachable(profile, "vit") == range(2, 4)
    assert reachable(replace(profile, pools=()), "vit") == range(4)


def test_even_use_is_one_and_no_use_is_marked() -> None:
    values = load(made({"text": ((2, 2, 2, 2), (8, 0, 0, 0))}), "text")
    assert values[0].tolist() == [1, 1, 1, 1]
    assert values[1, 0] == 4
    assert np.isnan(values[1, 1:]).all()


@pytest.mark.parametrize(("layers", "experts", "modalities"), [(3, 8, 1), (3, 8, 3), (48, 128, 2), (94, 160, 1)])
def test_every_cell_of_the_map_has_pixels(layers: int, experts: int, modalities: int, tmp_path: Path) -> None:
    draw(drawn(layers, experts, modalities), tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        width, height = image.size
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert width >= 8 * experts
    assert height >= 8 * layers
    assert width <= 2400


def test_the_same_profile_gives_the_same_picture(tmp_path: Path) -> None:
    profile = made({"text": ((3, 1, 0, 0),), "vit": ((0, 0, 0, 4),)}, pools=(2, 2))
    for name in "ab":
        draw(profile, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

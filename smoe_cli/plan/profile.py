"""A profile: how often a pretrained model uses each of its experts, by layer and modality. Written by `smoe profile`.

The numbers are sums, so profiles of the same model over different data can be added. Router weights are rounded to multiples
of 2^-24 before they are summed: float64 then adds them without rounding, in any order, up to a mass of 2^29 an expert.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.recipe.nodes import MODALITIES

KIND = "smoe/profile"
VERSION = 1
OF_A_MODEL_FOLDER = "model folder "
"""What `Profile.weights` begins with when a model folder was counted."""
SAME = ("family", "sha256", "weights", "dtype", "layers", "experts", "pools", "top_k")
"""Fields that say which model was counted, and how. Only profiles that agree in all of them can be added."""

Counts = tuple[tuple[int, ...], ...]
Masses = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Counted:
    """How far a data source was counted. name: how the user named it. rows: read so far, of `total` to be read; skipped: the
    unusable ones among them."""

    name: str
    rows: int
    total: int
    skipped: int = 0


@dataclass(frozen=True)
class Profile:
    """Counts over the data that was seen.

    family, sha256: the profiled model (`Backbone`). layers: decoder layers that have experts, in order. experts: routed experts
    of a layer, numbered pool after pool. top_k: experts a token was sent to.
    tokens: {modality: tokens seen}. A modality is that of the token whose hidden state was routed: `vit` features of an image
    to understand, `vae` latents of an image being drawn, everything else `text`. Start and end of an image are text, except in
    families that have experts for images (ERNIE), which get them. Padding is left out, and so is a modality without tokens.
    counts: {modality: [layer][expert]}, how many tokens chose the expert; a layer's sum to tokens × top_k. mass: the same,
    weighted by the weights that the router gave to the chosen experts' outputs.
    data: {hash of a data source: how far it was counted}.
    model: the name it was opened by. weights: a hash of samples of its weights, after OF_A_MODEL_FOLDER if they lie as in
    a model folder, which cannot be compared with a checkpoint's. dtype: what was computed in. pools: sizes of
    the sets of experts with a router of their own; () reads as one set.
    """

    family: str
    sha256: str | None
    layers: tuple[int, ...]
    experts: int
    top_k: int
    tokens: dict[str, int]
    counts: dict[str, Counts]
    mass: dict[str, Masses]
    data: dict[str, Counted] = field(default_factory=dict)
    model: str = ""
    weights: str | None = None
    dtype: str = "float32"
    pools: tuple[int, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that were seen, in the usual order."""
        return tuple(m for m in MODALITIES if m in self.tokens)

    @property
    def finished(self) -> bool:
        """Whether every data source was read to its end."""
        return all(counted.rows == counted.total for counted in self.data.values())

    def to_dict(self) -> dict[str, Any]:
        """As written to a file."""
        return {"kind": KIND, "version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Profile:
        """The inverse of `to_dict`. Raises ValueError, KeyError, TypeError or AttributeError on anything else."""
        if data.get("kind") != KIND:
            raise ValueError(f"`kind` is {data.get('kind')!r}, not {KIND!r}")
        if data.get("version") != VERSION:
            raise ValueError(f"version {data.get('version')!r}; this smoe reads {VERSION}")
        try:
            profile = cls._of(data)
        except OverflowError as error:  # a JSON file may say `Infinity`
            raise ValueError(str(error)) from error
        profile._check()
        return profile

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Profile:
        return cls(
            family=str(data["family"]),
            sha256=data["sha256"],
            layers=tuple(int(layer) for layer in data["layers"]),
            experts=int(data["experts"]),
            top_k=int(data["top_k"]),
            tokens={str(m): int(n) for m, n in data["tokens"].items()},
            counts={m: tuple(tuple(int(n) for n in row) for row in rows) for m, rows in data["counts"].items()},
            mass={m: tuple(tuple(float(w) for w in row) for row in rows) for m, rows in data["mass"].items()},
            data={str(key): Counted(**counted) for key, counted in data["data"].items()},
            model=str(data["model"]),
            weights=data["weights"],
            dtype=str(data["dtype"]),
            pools=tuple(int(size) for size in data["pools"]),
        )

    def _check(self) -> None:
        shape = (len(self.layers), self.experts)
        if unknown := set(self.tokens) - set(MODALITIES):
            raise ValueError(f"unknown modality `{min(unknown)}`")
        if any(number < 0 for number in self.tokens.values()):
            raise ValueError("`tokens` has a negative number")
        if self.pools and sum(self.pools) != self.experts:
            raise ValueError(f"`pools` {list(self.pools)} are not {self.experts} experts")
        for name, table in (("counts", self.counts), ("mass", self.mass)):
            if table.keys() != self.tokens.keys():
                raise ValueError(f"`{name}` and `tokens` have different modalities")
            for modality, rows in table.items():
                if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
                    raise ValueError(f"`{name}.{modality}` should have {shape[0]} layers of {shape[1]} experts")
                if any(value < 0 or not math.isfinite(value) for row in rows for value in row):
                    raise ValueError(f"`{name}.{modality}` has a negative or non-finite number")


def add(first: Profile, second: Profile) -> Profile:
    """The profile over the data of both. Commutative and associative, in every bit.

    Raises ValueError naming the field in which the models differ, or the data that both have counted.
    """
    for name in SAME:
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            raise ValueError(f"`{name}` differs: {_short(ours)} and {_short(theirs)}")
    if twice := sorted(first.data.keys() & second.data.keys()):
        names = sorted({first.data[twice[0]].name, second.data[twice[0]].name})
        raise ValueError(f"the same data was counted in both: {' and '.join(names)}")
    seen = [m for m in MODALITIES if m in first.tokens or m in second.tokens]
    return Profile(
        **{name: getattr(first, name) for name in SAME},
        tokens={m: first.tokens.get(m, 0) + second.tokens.get(m, 0) for m in seen},
        counts={m: _sum(first.counts.get(m), second.counts.get(m)) for m in seen},
        mass={m: _sum(first.mass.get(m), second.mass.get(m)) for m in seen},
        data=dict(sorted((first.data | second.data).items())),
        model=min(first.model, second.model),
    )


def read_profile(path: str | Path) -> Profile:
    """Raises UserError naming the file and what is wrong with it."""
    try:
        return Profile.from_dict(json.loads(Path(path).expanduser().read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", "write one with `smoe profile MODEL --data … --out profile.json`") from error
    except KeyError as error:
        raise UserError(f"{path}: not a profile (lacks {error})", "write it with `smoe profile`") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a profile ({error})", "write it with `smoe profile`") from error


def _sum(first: Sequence[Sequence[Any]] | None, second: Sequence[Sequence[Any]] | None) -> tuple[tuple[Any, ...], ...]:
    if first is None or second is None:
        return tuple(tuple(row) for row in first or second or ())
    return tuple(tuple(a + b for a, b in zip(x, y, strict=True)) for x, y in zip(first, second, strict=True))


def _short(value: Any) -> str:
    text = str(value)
    return f"`{text[:12]}…`" if isinstance(value, str) and len(text) == 64 else f"`{text}`"

"""Folders of drawings in the layouts that benchmarks of drawing read: GenEval and T2I-CompBench.

GenEval (github.com/djghosh13/geneval, evaluation/evaluate_images.py): `00000/metadata.jsonl`, a prompt's line of
evaluation_metadata.jsonl, and `00000/samples/00000.png` … T2I-CompBench (github.com/Karine-Huang/T2I-CompBench):
`samples/<prompt>_000000.png`, numbered through over all prompts; what stands before the first `_` is read as the prompt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.png import drawing_settings
from smoe_cli.eval.targets import check_folder, writing
from smoe_cli.files import sha256, write_atomically
from smoe_cli.recipe.models import Sampling

SETTINGS = "smoe.json"
"""Lies in a gallery and says how all of it is drawn."""
LONGEST_NAME = 255
"""Bytes of a file's name on the usual file systems."""


@dataclass(frozen=True)
class Prompt:
    """A prompt of a benchmark's file."""

    text: str
    line: int
    """Of the file, from 1."""
    facts: dict[str, Any]
    """GenEval: the whole line."""


@dataclass(frozen=True)
class Layout:
    """How a benchmark's folders are laid out."""

    count: int
    """Drawings of each prompt in the benchmark's own instructions."""
    read: Callable[[str], tuple[str, dict[str, Any]]]
    """From a line of its file of prompts to the prompt and what else the line says. Raises ValueError."""
    place: Callable[[Prompt, int, int, int], Path]
    """(prompt, its number, number of the drawing, drawings of each prompt) to the path of a drawing in the gallery."""
    card: str | None = None
    """File beside the folder of a prompt's drawings that holds its facts."""


def _read_geneval(line: str) -> tuple[str, dict[str, Any]]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    for key in ("prompt", "tag"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"no `{key}`, which GenEval asks for")
    return row["prompt"], row


def _read_compbench(line: str) -> tuple[str, dict[str, Any]]:
    prompt = line.split("\t")[0]  # some of its files have more columns
    for sign, why in (("/", "which no file name has"), ("\0", "which no file name has"), ("_", "at which T2I-CompBench cuts")):
        if sign in prompt:
            raise ValueError(f"the prompt becomes a file name, and holds {sign!r}, {why}")
    if len(f"{prompt}_000000.png".encode()) > LONGEST_NAME:
        raise ValueError("the prompt becomes a file name, and is too long for one")
    return prompt, {}


LAYOUTS = {
    "geneval": Layout(
        4, _read_geneval, lambda prompt, number, sample, count: Path(f"{number:05}/samples/{sample:05}.png"), "metadata.jsonl"
    ),
    "t2i-compbench": Layout(
        10,
        _read_compbench,
        lambda prompt, number, sample, count: Path(f"samples/{prompt.text}_{number * count + sample:06}.png"),
    ),
}


def read_prompts(path: Path, layout: str) -> list[Prompt]:
    """The prompts of a benchmark's file, one a line. Raises UserError naming file and line of one that cannot be used."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file", "GenEval: evaluation_metadata.jsonl; T2I-CompBench: <category>_val.txt"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text, facts = LAYOUTS[layout].read(line)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: {error}", f"--layout {layout} takes the benchmark's own file of prompts"
            ) from None
        if not text.strip():
            raise UserError(f"{path}:{number}: the prompt is empty")
        prompts.append(Prompt(text, number, facts))
    if not prompts:
        raise UserError(f"{path}: no prompts")
    return prompts


class Gallery:
    """A folder in a benchmark's layout that is filled drawing by drawing and can be gone on with.

    All drawings in it are made alike: by one model, from the same prompts, seed and settings; others are never mixed with
    them. count: drawings of each prompt, None for the benchmark's own number. Raises UserError on a folder that holds
    something else.
    """

    def __init__(
        self, folder: Path, layout: str, prompts: Path, count: int | None, sampling: Sampling, seed: int, model_sha256: str
    ):
        self.folder, self.layout, self.prompts = folder, LAYOUTS[layout], read_prompts(prompts, layout)
        self.count, self.sampling, self.seed, self.model_sha256 = count or self.layout.count, sampling, seed, model_sha256
        self._settings = {
            "layout": layout,
            "prompts_sha256": sha256(prompts),
            "count": self.count,
            "seed": seed,
            "sampling": drawing_settings(sampling),
            "model_sha256": model_sha256,
        }
        check_folder(folder)
        self._check()

    def _check(self) -> None:
        file = self.folder / SETTINGS
        if not file.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise UserError(
                    f"{self.folder}: not empty, and not a gallery that `smoe generate` began", "choose another --out"
                )
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read: {error}", "choose another --out") from None
        for name, now in self._settings.items():
            if not isinstance(before, dict) or before.get(name) != now:
                then = before.get(name) if isinstance(before, dict) else None
                raise UserError(
                    f"{self.folder}: holds drawings with another `{name}`: {json.dumps(then)}, and now {json.dumps(now)}",
                    "choose another --out, or pass what was passed then",
                )

    def missing(self) -> Iterator[tuple[Prompt, int, Path]]:
        """What is still to be drawn: prompt, number of the drawing (0 … count − 1), path. A prompt's card is written first."""
        with writing(self.folder / SETTINGS):
            write_atomically(self.folder / SETTINGS, json.dumps(self._settings, indent=2) + "\n")
        for number, prompt in enumerate(self.prompts):
            for sample in range(self.count):
                path = self.folder / self.layout.place(prompt, number, sample, self.count)
                if self.layout.card and sample == 0 and not (card := path.parent.parent / self.layout.card).exists():
                    with writing(card):
                        write_atomically(card, json.dumps(prompt.facts))
                if not path.exists():
                    yield prompt, sample, path

    def add(self, path: Path, png: bytes) -> None:
        """Write a drawing whole or not at all, and nothing else into the folder that the benchmark counts."""
        partial = self.folder / f".{os.getpid()}.png"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(png)
            os.replace(partial, path)

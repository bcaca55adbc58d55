"""The run directory, and the decision whether to go on in it."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from smoe_cli.errors import UserError
from smoe_cli.eval.provenance import versions
from smoe_cli.files import write_atomically
from smoe_cli.plan import Plan
from smoe_cli.recipe import Loaded, load

# keys that may differ from the recipe of the run being resumed: they never change what is trained, up to rounding
HARMLESS = re.compile(
    r"description|evaluation|data\.workers|phases\.\d+\.accumulate|training\.(checkpoints|trackers|sampling|activation_checkpointing)"
)


LOCK = ".lock"


def choose(name: str, run_dir: Path | None, resume: str) -> Path:
    """The directory to run in. `never` takes the next free one beside an earlier run, so that nothing is overwritten."""
    folder = run_dir or Path("runs") / name
    if resume != "never":
        return folder
    for candidate in (folder, *(folder.with_name(f"{folder.name}-{i}") for i in range(2, 10_000))):
        if not candidate.exists() or not any(candidate.iterdir()):
            return candidate
    raise UserError(f"{folder}: ten thousand runs stand beside it", "choose another with --run-dir")


def start(folder: Path, loaded: Loaded, plan: Plan) -> IO[str]:
    """Create the directory, or check that it belongs to this recipe, and lock it until the returned file is closed.

    Raises UserError naming the keys that differ, and when another process trains there.
    """
    resolved = folder / "recipe.resolved.yaml"
    if resolved.exists():
        earlier, now = (recipe.model_dump(mode="json") for recipe in (load(resolved).recipe, loaded.recipe))
        differing = [path for path in _differences(earlier, now) if not HARMLESS.match(path)]
        if differing:
            verb = "differs" if len(differing) == 1 else "differ"
            raise UserError(
                f"{folder}: holds a run of another recipe; {', '.join(differing[:4])} {verb}",
                "use --resume never for a new directory beside it, or --run-dir to choose one",
            )
    elif folder.exists() and any(p.name != LOCK for p in folder.iterdir()):
        raise UserError(f"{folder}: exists and is not a run directory", "choose another with --run-dir")
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(
            f"{folder}: another process is training there", "wait for it, or choose another with --run-dir"
        ) from None
    for sub in ("checkpoints", "samples", "eval"):
        (folder / sub).mkdir(exist_ok=True)
    write_atomically(folder / "recipe.yaml", loaded.text)
    write_atomically(resolved, loaded.resolved_yaml())
    write_atomically(folder / "plan.json", json.dumps(plan.to_dict(), indent=1))
    return lock


def environment(device: str, processes: int) -> dict[str, Any]:
    """Versions and machine, for the report and for reproducing the run."""
    return {
        **versions("accelerate", "datasets"),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "processes": processes,
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "git commit": _commit(),
    }


def _commit() -> str | None:
    """Commit of the checkout that this package runs from; None when it is installed otherwise."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
            done = subprocess.run(["git", "-C", str(here.parent), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Dotted paths at which two plain trees differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        if path == "data.sources" and list(a) != list(b) and a.keys() == b.keys():
            yield "the order of data.sources"  # rows are drawn, and losses counted, in this order
        for key in sorted({*a, *b}):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, f"{path}.{index}")
    elif a != b:
        yield path

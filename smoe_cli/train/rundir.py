"""The run directory, and the decision whether to go on in it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from smoe_cli.errors import UserError
from smoe_cli.plan import Plan
from smoe_cli.recipe import Loaded, load

# keys that may differ from the recipe of the run being resumed: they change what is written, never what is trained
HARMLESS = ("description", "evaluation", "data.workers", "training.checkpoints", "training.trackers", "training.sampling")


def choose(name: str, run_dir: Path | None, resume: str) -> Path:
    """The directory to run in. `never` takes the next free one beside an earlier run, so that nothing is overwritten."""
    folder = run_dir or Path("runs") / name
    if resume != "never":
        return folder
    candidates = [folder, *(folder.with_name(f"{folder.name}-{i}") for i in range(2, 10_000))]
    return next(c for c in candidates if not c.exists() or not any(c.iterdir()))


def start(folder: Path, loaded: Loaded, plan: Plan) -> None:
    """Create the directory, or check that it belongs to this recipe. Raises UserError naming the keys that differ."""
    resolved = folder / "recipe.resolved.yaml"
    if resolved.exists():
        earlier = load(resolved).recipe.model_dump(mode="json")
        now = loaded.recipe.model_dump(mode="json")
        differing = [path for path in _differences(earlier, now) if not path.startswith(HARMLESS)]
        if differing:
            verb = "differs" if len(differing) == 1 else "differ"
            raise UserError(
                f"{folder}: holds a run of another recipe; {', '.join(differing[:4])} {verb}",
                "use --resume never for a new directory beside it, or --run-dir to choose one",
            )
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: exists and is not a run directory", "choose another with --run-dir")
    for sub in ("checkpoints", "samples", "eval"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    write(folder / "recipe.yaml", loaded.text)
    write(resolved, loaded.resolved_yaml())
    write(folder / "plan.json", json.dumps(plan.to_dict(), indent=1))


def write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def environment(device: str, processes: int) -> dict[str, Any]:
    """Versions and machine, for the report and for reproducing the run."""
    import accelerate
    import datasets
    import torch
    import transformers

    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "smoe": version("smoe"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "datasets": datasets.__version__,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "processes": processes,
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "git commit": commit.stdout.strip() or None,
    }


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Dotted paths at which two plain trees differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, f"{path}.{index}")
    elif a != b:
        yield path

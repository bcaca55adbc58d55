"""The heat map of a profile: layers × experts, one panel a modality."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from smoe_cli.convert.profiling.summary import reachable
from smoe_cli.eval.targets import writing
from smoe_cli.files import write_atomically
from smoe_cli.plan.profile import Profile

COLOURS = {"text": "text tokens", "vit": "vit tokens (images to understand)", "vae": "vae tokens (images being drawn)"}
CELL = (0.07, 0.3)
"""Smallest and largest side of a cell, in inches."""
WIDTH = 9.0
"""Of the cells of one panel, in inches, at most."""
DPI = 160
NEVER = "#bab3a9"
"""Colour of an expert that no token chose."""


def load(profile: Profile, modality: str) -> np.ndarray:
    """(L, E) float64: an expert's share of its layer's assignments, times the experts of the layer. 1 is even use; NaN: never
    chosen."""
    counts = np.array(profile.counts[modality], dtype=np.float64)
    loads = counts / counts.sum(1, keepdims=True) * len(reachable(profile, modality))
    return np.where(counts == 0, np.nan, loads)


def draw(profile: Profile, out: Path) -> None:
    """Write the heat map as a PNG, atomically. Raises UserError or Failure when it cannot be written."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modalities = profile.modalities
    loads = {modality: load(profile, modality) for modality in modalities}
    every = np.concatenate([values.ravel() for values in loads.values()])
    top = max(2.0, float(np.nanpercentile(every, 100 if every.size < 1000 else 99.5)))
    colours = mpl.colormaps["YlGnBu"].with_extremes(bad=NEVER)
    norm = mpl.colors.Normalize(0, top)

    layers, experts = len(profile.layers), profile.experts
    cell = min(max(WIDTH / experts, CELL[0]), CELL[1])
    width, height = max(experts * cell, 3.2), max(layers * cell, 0.6)
    beside = len(modalities) * width <= WIDTH
    columns = len(modalities) if beside else 1
    rows = 1 if beside else len(modalities)
    left, right, above, below, gap_x, gap_y = 0.75, 1.15, 0.95, 0.55, 0.75, 0.8
    size = (
        left + columns * width + (columns - 1) * gap_x + right,
        above + rows * height + (rows - 1) * gap_y + below,
    )
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 8.5, "axes.linewidth": 0.6}):
        figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        for i, modality in enumerate(modalities):
            x = left + (i % columns) * (width + gap_x)
            y = size[1] - above - height - (i // columns) * (height + gap_y)
            axes = figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))
            own = reachable(profile, modality)
            image = axes.imshow(
                loads[modality][:, own.start : own.stop],
                extent=(own.start - 0.5, own.stop - 0.5, layers - 0.5, -0.5),
                cmap=colours,
                norm=norm,
                aspect="auto",
                interpolation="nearest",
            )
            axes.set_xlim(-0.5, experts - 0.5)
            axes.set_title(f"{COLOURS[modality]}: {profile.tokens[modality]:,}", loc="left", fontsize=9)
            axes.set_ylabel("layer")
            axes.set_xlabel("expert")
            ticks = _ticks(layers)
            axes.set_yticks(ticks, [str(profile.layers[tick]) for tick in ticks])
            axes.set_xticks(_ticks(experts))
            axes.tick_params(length=2, width=0.6)
            for start in np.cumsum(profile.pools[:-1]) if profile.pools else ():
                axes.axvline(start - 0.5, color="black", linewidth=1)
        bar = figure.add_axes(
            ((size[0] - right + 0.2) / size[0], below / size[1], 0.12 / size[0], 1 - (above + below) / size[1])
        )
        figure.colorbar(image, cax=bar, extend="max" if np.nanmax(every) > top else "neither")
        bar.set_title("× even\nuse", fontsize=8, loc="left")
        bar.tick_params(length=2, width=0.6)
        figure.text(left / size[0], 1 - 0.2 / size[1], f"How {_name(profile.model)} uses its experts", fontsize=11, va="top")
        data = ", ".join(sorted(f"{_name(counted.name)} ({counted.rows:,})" for counted in profile.data.values()))
        figure.text(
            left / size[0], 1 - 0.44 / size[1], _short(f"on {data}; grey: never chosen", size[0]), va="top", color="#555555"
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    with writing(out):
        write_atomically(out, buffer.getvalue())


def _ticks(n: int) -> list[int]:
    """About a dozen, at a round distance."""
    step = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if n / step <= 17 or step == 1024)
    return list(range(0, n, step))


def _name(path: str) -> str:
    """The last part of a path; a hub id as it is."""
    return Path(path).name if Path(path).is_absolute() or path.count("/") > 1 else path


def _short(text: str, inches: float) -> str:
    longest = int(inches * 16)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"

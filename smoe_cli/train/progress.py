"""What the user sees while training: one live block on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from smoe_cli.plan import Plan


class Display:
    """Phase, step, losses, tokens/s, time left, group utilisation. `silent` for processes other than the first."""

    def __init__(self, plan: Plan, silent: bool = False):
        self.plan, self.silent = plan, silent
        self.console = Console(quiet=silent, highlight=False, soft_wrap=True)
        self.live: Live | None = None
        self.line: Mapping[str, float] = {}
        self.step, self.rate = 0, 0.0
        self.began: tuple[float, int] | None = None
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[eta]}"),
        )
        self.task = self.bar.add_task("", total=plan.total_steps, eta="")

    def start(self, step: int) -> None:
        """Training begins at this step: show the live block if there is a terminal."""
        self.step = step
        self.bar.update(self.task, completed=step)
        if self.console.is_terminal and not self.silent:
            self.live = Live(self._render(), console=self.console, refresh_per_second=4)
            self.live.start()

    def advance(self, phase: str, step: int, tokens_per_second: float) -> None:
        """After every step."""
        now = time.monotonic()
        self.began = self.began or (now, step)
        self.step, self.rate = step, tokens_per_second
        if self.live:
            self.bar.update(self.task, completed=step, description=f"[bold]{phase}", eta=f"ETA {self.eta()}")
            self.live.update(self._render())

    def log(self, phase: str, step: int, line: Mapping[str, float]) -> None:
        """After every logged step."""
        self.line = line
        if self.live is None:
            parts = [
                f"{k.removeprefix('loss/'):>s} {line[k]:.3f}"
                for k in ("loss/total", "loss/text", "loss/flow", "loss/balance")
                if k in line
            ]
            used = [f"{k.rsplit('/', 1)[1]} {v:.0%}" for k, v in line.items() if k.startswith("routing/utilisation/")]
            used_text = f"  used {' '.join(used)}" if used else ""
            where = f"{phase}  {step:,}/{self.plan.total_steps:,}"
            self.console.print(f"{where}  {'  '.join(parts)}  {self.rate:,.0f} tok/s  ETA {self.eta()}{used_text}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text)

    def eta(self) -> str:
        """Time left at the average speed of this session."""
        if self.began is None or self.step == self.began[1]:
            return "–"
        seconds = (time.monotonic() - self.began[0]) / (self.step - self.began[1]) * (self.plan.total_steps - self.step)
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.stop()
            self.live = None

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 2))
        losses = [
            f"{k.removeprefix('loss/').removeprefix('source/')} [bold]{v:.3f}[/]"
            for k, v in self.line.items()
            if k.startswith("loss/")
        ]
        routing = [
            f"{k.rsplit('/', 1)[1]} used {v:.0%}, capacity {self.line.get(k.replace('utilisation', 'capacity'), 0):.0%}"
            for k, v in self.line.items()
            if k.startswith("routing/utilisation/")
        ]
        table.add_row("[dim]loss[/]", "  ".join(losses) or "…")
        table.add_row("[dim]experts[/]", "   ".join(routing) or "…")
        table.add_row("[dim]speed[/]", f"{self.rate:,.0f} tokens/s")
        return Group(self.bar, table)

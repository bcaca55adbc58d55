"""A plan in the terminal. Needs rich, and is imported only where something is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from smoe_cli.plan.provenance import provenance
from smoe_cli.plan.schedule import shield_factors
from smoe_cli.plan.timeline import ASCII, BLOCKS, Glyphs, timeline
from smoe_cli.plan.types import GroupPlan, Plan
from smoe_cli.plan.units import count, indices, rate, size
from smoe_cli.recipe.effects import shared_modalities
from smoe_cli.recipe.models import Phase, Recipe, Shared

COLUMNS_PER_TABLE = 4
"""Phases side by side in one table; more go to a table below."""

MEMORY = {
    "weights": "weights (float32)",
    "autocast": "copies in bf16",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "ema": "averaged weights",
    "activations": "activations (estimate)",
}

NAMES = {"text": "text", "vit": "vit (understanding)", "vae": "vae (generation)"}


def show(plan: Plan, recipe: Recipe, console: Console) -> None:
    """Prints the plan: size, groups, a token's way by modality, phases, rates by role, timeline, memory."""
    glyphs = ASCII if console.options.ascii_only else BLOCKS
    _heading(plan, recipe, console, glyphs)
    _section(console, "Expert groups", _groups(plan, recipe))
    if plan.kept:
        _section(console, "What the split keeps of the profile's routing", _kept(plan))
    _section(console, f"Per token, with FLOPs in a row of {plan.sequence_length:,}", _tokens(plan))
    _section(console, "Parameters, in all and active for a token", _parameters(plan, console.width))
    _section(console, "Phases", _phases(plan))
    for chosen in _side_by_side(plan):
        _section(console, "Learning rates", _rates(plan, chosen))
    _section(console, "Timeline", *_timeline(plan, recipe, console.width, glyphs))
    where = "one device" if plan.processes == 1 else f"each of {plan.processes} devices"
    for chosen in _side_by_side(plan):
        _section(console, f"Memory of {where}, holding the whole model", _memory(plan, chosen))


def _side_by_side(plan: Plan) -> list[range]:
    """Indices of the phases, cut into tables."""
    phases = range(len(plan.phases))
    return [phases[first : first + COLUMNS_PER_TABLE] for first in phases[::COLUMNS_PER_TABLE]]


def _heading(plan: Plan, recipe: Recipe, console: Console, glyphs: Glyphs) -> None:
    console.print(Text(plan.name, style="bold"))
    if recipe.description:
        console.print(Text(recipe.description.strip()), style="dim")
    console.print()
    total, parts = plan.parameters.total, plan.parameters
    facts = [f"{count(total)} parameters", f"{count(plan.active['text'].total)} active for a text token"]
    facts += [f"{plan.total_steps:,} steps", f"{count(plan.total_tokens)} tokens"]
    console.print(Text(", ".join(facts)))
    named = [("backbone", parts.backbone), ("vision encoder", parts.vision), ("projector", parts.projector)]
    named += [("latent interface", parts.latents)]
    shown = [f"{name} {count(number)}" for name, number in named if number]
    console.print(Text(", ".join(shown)))
    for line in provenance(plan, recipe, glyphs.then):
        console.print(Text(line))


def _section(console: Console, title: str, *parts: Table | Text) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))
    for part in parts:
        console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _table(*columns: str, left: int = 1) -> Table:
    """A plain table; the first `left` columns are words, the others numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", no_wrap=position == 0)
    return table


def _groups(plan: Plan, recipe: Recipe) -> Table:
    table = _table("group", "serves", "experts of each layer", "experts", "top-k", left=3)
    for group in plan.groups:
        which = _which(plan, group)
        table.add_row(group.name, ", ".join(group.modalities), which, str(group.size), str(plan.top_k))
    if "shared" in plan.roles:
        always = _always_on(plan, recipe)
        served = [modality for modality in shared_modalities(recipe.model) if modality in plan.active]
        which = f"always on: {_by_layer(plan.promoted)}" if plan.promoted else "always on"
        table.add_row("shared", ", ".join(served), which, always, always)
    return table


def _which(plan: Plan, group: GroupPlan) -> str:
    if group.mounted_from is not None:
        source = next(other for other in plan.groups if other.name == group.mounted_from)
        times = group.size // source.size
        copies = f"copied from {source.name}" + (f", {times} times" if times > 1 else "")
        return copies + (f", noise {group.noise:g}" if group.noise else "")
    which = _by_layer(group.experts)
    pools = plan.source.backbone.anatomy.pools
    return f"{which} ({pools[group.pool]})" if len(pools) > 1 else which


def _by_layer(experts: Sequence[Sequence[int]]) -> str:
    return indices(experts[0]) if len(set(map(tuple, experts))) == 1 else "differ by layer"


def _kept(plan: Plan) -> Table:
    table = _table("modality", "group", "of its assignments", "of their weight", left=2)
    for modality, shares in plan.kept.items():
        name = plan.groups[plan.group_of[modality]].name
        table.add_row(NAMES[modality], name, *(f"{shares[key]:.1%}" for key in ("counts", "mass")))
    return table


def _always_on(plan: Plan, recipe: Recipe) -> str:
    """How many experts are always on; not said of a checkpoint's own, which families fuse into one wide one."""
    shared, upcycle = recipe.model.shared, recipe.model.backbone.upcycle
    if plan.promoted:
        return str(len(plan.promoted[0]))
    if upcycle is not None:
        return str(upcycle.shared)
    if recipe.model.backbone.pretrained is not None:
        return ""
    return str(shared.count or 1) if isinstance(shared, Shared) else ""


def _tokens(plan: Plan) -> Table:
    table = _table("modality", "group", "tokens/image", "active", "forward", "training", left=2)
    images = {"vit": plan.vit_tokens, "vae": plan.vae_tokens}
    for modality, active in plan.active.items():
        flops = plan.flops[modality]
        table.add_row(
            NAMES[modality],
            plan.groups[plan.group_of[modality]].name,
            str(images[modality]) if modality in images else "",
            count(active.total),
            count(flops.forward),
            count(flops.training),
        )
    return table


def _parameters(plan: Plan, width: int) -> Table:
    modalities = tuple(plan.active)
    headings = [f"active for {modality}" if width >= 100 else modality for modality in modalities]
    table = _table("role", "tensors", "parameters", *headings)
    for role in plan.parameters.roles:
        cells = [plan.active[modality].roles.get(role, 0) for modality in modalities]
        number = plan.parameters.roles[role]
        table.add_row(role, str(plan.parameters.tensors[role]), count(number), *(count(n) if n else "" for n in cells))
    totals = [count(plan.active[modality].total) for modality in modalities]
    table.add_row("total", str(len(plan.tensors)), count(plan.parameters.total), *totals, style="bold")
    return table


def _phases(plan: Plan) -> Table:
    table = _table("phase", "data", "steps", "tokens/step", "rows", "micro-batches", "tokens", left=2)
    for phase in plan.phases:
        mixture = ", ".join(f"{source} {share:.0%}" for source, share in phase.mixture.items())
        numbers = (f"{phase.steps:,}", f"{phase.tokens_per_step:,}", f"{phase.rows_per_step:,}", str(phase.accumulate))
        table.add_row(phase.name, mixture, *numbers, count(phase.tokens))
    return table


def _rates(plan: Plan, chosen: range) -> Table:
    phases = [plan.phases[index] for index in chosen]
    table = _table("role", *(phase.name for phase in phases))
    for role in plan.roles:
        table.add_row(role, *(_rate(phase.rates.get(role)) for phase in phases))
    table.add_row("trainable parameters", *(count(phase.trainable) for phase in phases), style="bold")
    for modality in plan.active:
        table.add_row(f"  of a {modality} token's", *(count(phase.trainable_active[modality]) for phase in phases))
    return table


def _rate(peak: float | None) -> Text:
    return Text("frozen", style="blue") if peak is None else Text(rate(peak))


def _timeline(plan: Plan, recipe: Recipe, width: int, glyphs: Glyphs) -> list[Text]:
    label = max(len(role) for role in plan.roles)
    drawn = timeline(plan, recipe, 1, glyphs)  # one column: only the notes are of interest
    note = max(len(line.note) for line in drawn)
    columns = max(16, min(100, width - 2 - label - 2 - note - 2))
    styles = {"phase": "bold", "steps": "dim", "rate": "green", "shield": "magenta", "evaluation": "cyan"}
    lines = [
        Text.assemble(line.label.ljust(label + 2), (line.cells.ljust(columns + 2), styles[line.kind]), (line.note, "dim"))
        for line in timeline(plan, recipe, columns, glyphs)
    ]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return [*lines, *(Text(line) for phase in recipe.phases for line in _schedule(phase, glyphs))]


def _schedule(phase: Phase, glyphs: Glyphs) -> list[str]:
    """What the drawing shows of a phase, in numbers."""
    rise = f"rates rise over {phase.warmup:,} steps" if phase.warmup else "no warm-up"
    fall = f"{phase.decay.kind} decay to {phase.decay.floor:g} of the peak" if phase.decay else "then constant"
    weights, indent = phase.loss, " " * (len(phase.name) + 2)
    loss = f"loss = {weights.text:g} text + {weights.flow:g} flow + {weights.balance:g} balance"
    lines = [f"{phase.name}: {rise}, {fall}", indent + loss]
    for shield in phase.shields:
        factors = [f"{factor:g}" + (f" from step {step:,}" if step else "") for step, factor in shield_factors(shield)]
        who = f"{shield.module} {glyphs.into} {', '.join(shield.modalities)}"
        lines.append(f"{indent}shield {who} ({shield.mode}): {', '.join(factors)}")
    return lines


def _memory(plan: Plan, chosen: range) -> Table:
    phases = [plan.phases[index] for index in chosen]
    table = _table("", *(phase.name for phase in phases))
    for part, name in MEMORY.items():
        if any(getattr(phase.memory, part) for phase in plan.phases):
            table.add_row(name, *(size(getattr(phase.memory, part)) for phase in phases))
    table.add_row("total", *(size(phase.memory.total) for phase in phases), style="bold")
    return table

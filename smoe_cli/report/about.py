"""The sections that are tables: data, plan, environment."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_cli.report.load import Run
from smoe_cli.report.lookup import get, listing, mapping, mappings, moe_layers
from smoe_cli.report.markup import Html, el, join, missing, table
from smoe_cli.report.story import served_by_shared, shield
from smoe_cli.report.values import NONE, measured, rounded, share, value, whole_number
from smoe_cli.report.words import clip, number, short


def data(run: Run) -> Html:
    """What was drawn from each source, what was skipped, and why."""
    if not run.data:
        return missing("data.json is missing: it is written at the end of a run and tells what was drawn from each source.")
    rows: list[list[object]] = []
    for name, report in run.data.items():
        drawn, skipped = get(report, "drawn"), get(report, "skipped")
        offered = (number(drawn) or 0) + (number(skipped) or 0)
        reasons = sorted(mapping(report, "reasons").items(), key=lambda item: -(number(item[1]) or 0))
        named = [(clip(str(reason), 160), n) for reason, n in reasons[:20]]
        listed = join((join([whole_number(n, reason), f" × {reason}"]) for reason, n in named), "; ")
        task = get(run.recipe, "data", "sources", name, "task")
        rows.append(
            [
                name,
                task or "–",
                whole_number(drawn),
                whole_number(skipped),
                share((number(skipped) or 0) / offered) if offered else NONE,
                listed or "–",
            ]
        )
    return table("data", ["source", "task", "drawn", "skipped", "skipped share", "reasons"], rows, numeric=(2, 3, 4))


def plan(run: Run) -> Html:
    """Parameters by role with what each phase does to them, phases, groups."""
    if not run.plan:
        return missing("plan.json is missing or damaged: sizes are not known.")
    return join(
        [el("h3", "Parameters"), _roles(run), el("h3", "Phases"), _phases(run), el("h3", "Expert groups"), _groups(run)]
    )


def _roles(run: Run) -> Html:
    sizes, active = mapping(run.plan, "parameters", "roles"), mapping(run.plan, "active")
    phases = mappings(run.plan, "phases")
    roles = [str(role) for role in listing(run.plan, "roles")] or list(sizes)

    def rate(phase: dict[str, object], role: str) -> object:
        found = get(phase, "rates", role)
        return "frozen" if found is None else measured(found)

    rows: list[list[object]] = [
        [
            role,
            whole_number(sizes.get(role)),
            *(whole_number(get(active, m, "roles", role)) for m in active),
            *(rate(phase, role) for phase in phases),
        ]
        for role in roles
    ]
    totals = [whole_number(get(run.plan, "parameters", "total")), *(whole_number(get(active, m, "total")) for m in active)]
    rows.append(["all", *totals, *(join([rounded(phase.get("trainable")), " trained"]) for phase in phases)])
    flops = mapping(run.plan, "flops")
    rows.append(["FLOPs per token, training", "", *(rounded(get(flops, m, "training")) for m in active), *("" for _ in phases)])
    head = ["role", "parameters", *(f"active, {m}" for m in active), *(f"peak rate, {phase.get('name')}" for phase in phases)]
    return table("parameters", head, rows, numeric=range(1, len(head)))


def _phases(run: Run) -> Html:
    losses = [mapping(phase, "loss") for phase in mappings(run.recipe, "phases")]
    rows: list[list[object]] = []
    for index, phase in enumerate(mappings(run.plan, "phases")):
        mixture = join((join([name, " ", share(found, name)]) for name, found in mapping(phase, "mixture").items()), ", ")
        loss = losses[index] if index < len(losses) else {}
        weights = join((join([name, " ", measured(_rate(found), name)]) for name, found in loss.items()), ", ")
        shields = join((shield(found) for found in mappings(phase, "shields")), "; ")
        memory = get(phase, "memory", "total")
        rows.append(
            [
                str(phase.get("name")),
                whole_number(phase.get("steps")),
                whole_number(phase.get("tokens_per_step")),
                rounded(phase.get("tokens")),
                mixture or "–",
                weights or "–",
                shields or "none",
                value(memory, f"{short(memory)}B") if number(memory) else NONE,
            ]
        )
    head = [
        "phase",
        "steps",
        "tokens per step",
        "tokens",
        "mixture, by samples",
        "loss weights",
        "shields",
        "memory per device, estimated",
    ]
    return table("phases", head, rows, numeric=(1, 2, 3, 7))


def _rate(value: object) -> object:
    """Numbers such as 1e-3, which YAML reads as text when they have no dot."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _groups(run: Run) -> Html:
    rows = [
        _experts(run, str(group.get("name")), listing(group, "modalities"), listing(group, "experts"))
        for group in mappings(run.plan, "groups")
    ]
    if promoted := listing(run.plan, "promoted"):
        rows.append(_experts(run, "promoted, always on", served_by_shared(run), promoted))
    return table("groups", ["group", "modalities", "experts per layer", "experts of the backbone"], rows, numeric=(2,))


def _experts(run: Run, name: str, modalities: Sequence[object], experts: Sequence[object]) -> list[object]:
    """A row: name, whom they serve, how many in each layer, and which, by layer where layers differ."""
    layers = [[int(number(i) or 0) for i in layer] for layer in experts if isinstance(layer, list)]
    if layers and all(layer == layers[0] for layer in layers):
        which = ranges(layers[0])
    else:
        numbered = zip(moe_layers(run.plan, len(layers)), layers, strict=True)
        which = "; ".join(f"layer {n}: {ranges(row)}" for n, row in numbered)
    return [name, ", ".join(map(str, modalities)), whole_number(len(layers[0]) if layers else None), which]


def ranges(indices: Sequence[int]) -> str:
    """[0, 1, 2, 5] → `0–2, 5`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def environment(run: Run) -> Html:
    """What it ran on."""
    if not run.environment:
        return missing("environment.json is missing.")
    rows = [[key, NONE if found is None else str(found)] for key, found in run.environment.items()]
    return table("environment", ["what", "value"], rows)

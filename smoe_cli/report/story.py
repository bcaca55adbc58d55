"""What was trained, and from what: four sentences from the recipe and the plan."""

from __future__ import annotations

from typing import Any

from smoe_cli.report.load import Run, Span
from smoe_cli.report.lookup import get, listing, mapping, mappings
from smoe_cli.report.markup import Html, el, join, text
from smoe_cli.report.values import measured, rounded, value, whole_number
from smoe_cli.report.verdict import drawing_sources
from smoe_cli.report.words import duration, number, short, whole


def story(run: Run) -> Html:
    """Where it comes from, how its experts are split, on what it was trained, and what was kept from changing."""
    told = {"From": _origin(run), "Experts": _experts(run), "Training": _training(run), "Protected": _protected(run)}
    rows = [el("div", el("dt", name), el("dd", sentence)) for name, sentence in told.items() if sentence]
    return el("dl", *rows, class_="story") if rows else Html("")


def _origin(run: Run) -> Html:
    backbone = mapping(run.recipe, "model", "backbone")
    scratch, upcycle = mapping(backbone, "scratch"), mapping(backbone, "upcycle")
    pretrained = mapping(backbone, "pretrained")
    checkpoint = upcycle or pretrained
    config = mapping(run.backbone, "config")
    size = _size(scratch or mapping(config, "text_config") or config)
    if scratch:
        return join([el("b", "Fresh weights"), f" of a {scratch.get('family')} decoder", size, _parameters(run), "."])
    if not checkpoint:
        return Html("")
    source = el("b", checkpoint.get("from") or checkpoint.get("path"))
    revision = f" at {checkpoint['revision']}" if checkpoint.get("revision") else ""
    family = get(run.backbone, "family")
    named = f", checkpoint of family {family}" if family else ""
    if not upcycle:
        return join([source, revision, named or ", a mixture-of-experts checkpoint", size, _parameters(run), "."])
    routed, always = (
        whole_number(upcycle.get("experts"), "routed copies"),
        whole_number(upcycle.get("shared", 1), "shared copies"),
    )
    made = [" Dense, made sparse: every feed-forward became ", routed, " routed copies of itself and ", always, " shared."]
    return join([source, revision, named, size, _parameters(run), ".", *made])


def _size(config: dict[str, Any]) -> Html:
    layers, width = config.get("num_hidden_layers"), config.get("hidden_size")
    if number(layers) is None or number(width) is None:
        return Html("")
    return join([", ", whole_number(layers, "layers"), " layers of width ", whole_number(width, "width")])


def _parameters(run: Run) -> Html:
    total = get(run.plan, "parameters", "total")
    active = [found for modality in mapping(run.plan, "active").values() if (found := number(get(modality, "total")))]
    if number(total) is None:
        return Html("")
    written: list[object] = ["; ", rounded(total, "parameters"), " parameters"]
    if active:
        low, high = min(active), max(active)
        lowest = [rounded(low, "fewest active parameters"), " to "] if short(low) != short(high) else []
        written += [", ", *lowest, rounded(high, "most active parameters"), " active for a token"]
    return join(written)


def _experts(run: Run) -> Html:
    groups = [_group(group) for group in mappings(run.plan, "groups")]
    shared = shared_experts(run)
    if not groups:
        return Html("")
    top = whole(get(run.plan, "top_k")) or whole(get(run.recipe, "model", "backbone", "scratch", "num_experts_per_tok"))
    per_token = join([", ", whole_number(top, "experts per token"), " for each token"]) if top else ""
    whose = join([" Always on: ", shared, "."]) if shared else ""
    return join(["Per layer ", _listed(groups), per_token, ".", whose])


def _group(group: dict[str, Any]) -> Html:
    name, size = str(group.get("name")), len(listing(group, "experts", 0))
    copied = f", copied from {group['mounted_from']}" if group.get("mounted_from") else ""
    modalities = ", ".join(map(str, listing(group, "modalities")))
    about = f"{'' if modalities == name else modalities}{copied}".removeprefix(", ")
    return join([whole_number(size, f"experts of {name}"), " ", el("b", name), f" ({about})" if about else ""])


def _listed(parts: list[Html]) -> Html:
    """`a, b and c`"""
    return join([join(parts[:-1], ", "), " and " if parts[1:] else "", parts[-1]])


def shared_experts(run: Run) -> Html:
    """How many experts are always on, whose they are and whom they serve; empty when neither recipe nor plan tells."""
    model, roles = mapping(run.recipe, "model"), listing(run.plan, "roles")
    upcycle, shared = mapping(model, "backbone", "upcycle"), mapping(model, "shared")
    own = bool(mapping(model, "backbone", "pretrained")) and not upcycle
    promoted = len(listing(run.plan, "promoted", 0)) or whole(shared.get("promote"))
    copies = whole(upcycle.get("shared"))
    if promoted:
        told = join([whole_number(promoted, "promoted experts"), " promoted"])
    elif get(model, "shared") == "none" or copies == 0 or (own and roles and "shared" not in roles):
        return text("none; the checkpoint's own are left out" if whole(get(run.plan, "parameters", "left_out")) else "none")
    elif copies:
        told = join([whole_number(copies, "shared experts"), " copy" if copies == 1 else " copies"])
    elif own and roles:
        told = text("the checkpoint's own")
    elif shared:
        held = whole(shared.get("count")) or 1
        told = join([whole_number(held, "shared experts"), " expert" if held == 1 else " experts"])
    else:
        return Html("")
    served = served_by_shared(run)
    return join([told, f" for {', '.join(served)}" if served else ""])


def served_by_shared(run: Run) -> list[str]:
    """Modalities whose tokens pass the experts that are always on, of those that the model has."""
    here = list(mapping(run.plan, "active"))
    named = [str(modality) for modality in listing(run.recipe, "model", "shared", "modalities")]
    return [modality for modality in named if modality in here] if named and here else named or here


def _training(run: Run) -> Html:
    drawing = set(drawing_sources(run))
    told = []
    recipes = mappings(run.recipe, "phases")
    for index, span in enumerate(run.phases):
        sources = list(mapping(recipes, index, "mixture"))
        sources.sort(key=lambda name: name not in drawing)
        listed = ", ".join(f"{name} (drawing)" if name in drawing else name for name in sources)
        done = _done(run, span)
        reached = [whole_number(done, f"steps done of {span.name}"), " of "] if done < span.steps else []
        about = [*reached, whole_number(span.steps, f"steps of {span.name}"), " steps", f" on {listed}" if listed else ""]
        told.append(join([el("b", span.name), " for ", *about]))
    if not told:
        return Html("")
    end: list[object] = []
    if seen := tokens(run):
        end += ["; ", rounded(seen, "tokens"), " tokens"]
    seconds = sum(found for row in run.timings if (found := number(row.get("seconds"))) is not None)
    if seconds:
        end += [" in ", value(round(seconds, 3), duration(seconds), "seconds in training")]
    if device := run.environment.get("device"):
        end.append(f" on {device}")
    return join([join(told, ", then "), *end, "."])


def tokens(run: Run) -> int:
    """Tokens up to the last step that left a trace."""
    total = 0
    for span, phase in zip(run.phases, mappings(run.plan, "phases"), strict=False):
        total += _done(run, span) * int(number(phase.get("tokens_per_step")) or 0)
    return total


def _done(run: Run, span: Span) -> int:
    """Steps of a phase up to the last one that left a trace."""
    return span.steps if run.finished else min(max(run.last_step - span.start, 0), span.steps)


def _protected(run: Run) -> Html:
    """Shields and frozen roles, phase by phase."""
    told: list[tuple[list[Html], Html]] = []  # phases in a row that are protected alike, and how
    trainable = len(listing(run.plan, "roles"))
    for phase in mappings(run.plan, "phases"):
        parts = [shield(found) for found in mappings(phase, "shields")]
        if frozen := [str(role) for role in listing(phase, "frozen")]:
            listed = f"{', '.join(frozen)} frozen" if len(frozen) <= trainable / 2 else f"all but {_rest(run, frozen)} frozen"
            parts.append(text(listed))
        name, how = el("b", phase.get("name")), join(parts, ", and ")
        if told and told[-1][1] == how:
            told[-1][0].append(name)
        else:
            told.append(([name], how))
    if not mappings(run.plan, "phases"):
        return Html("")
    kept = [(names, how) for names, how in told if how]
    protected = [join(["in " if i else "In ", _listed(names), " ", how]) for i, (names, how) in enumerate(kept)]
    if not protected:
        return text("Nothing: all roles are trained in every phase, and no gradient is shielded.")
    return join([join(protected, "; "), "."])


def _rest(run: Run, frozen: list[str]) -> str:
    return ", ".join(str(role) for role in listing(run.plan, "roles") if role not in frozen)


def shield(found: dict[str, Any]) -> Html:
    """A shield with its staircase of factors."""
    whose = f"the gradient of {', '.join(map(str, listing(found, 'modalities')))} tokens through {found.get('module')}"
    stairs: list[Html] = []
    for stair in listing(found, "factors"):
        start, factor = number(get(stair, 0)), number(get(stair, 1))
        if factor is None:
            continue
        scaled = join(["scaled by ", measured(factor, "factor")])
        what = text("cut") if factor == 0 else text("open") if factor == 1 else scaled
        stairs.append(join([what, " from step ", whole_number(start, "from step"), " of the phase"]) if start else what)
    return join([whose, " is ", join(stairs, ", ")])

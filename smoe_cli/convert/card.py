"""The README of a converted folder: what it is, where it comes from, what was left out, how it was checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smoe_cli.convert.options import Report, words
from smoe_cli.eval.provenance import versions
from smoe_cli.plan import Plan
from smoe_cli.recipe import Loaded


@dataclass(frozen=True)
class Facts:
    """recipe: its name and its resolved text. hashes: {file of the source: SHA-256}. loads: the auto class that opens the
    folder."""

    recipe: Loaded
    plan: Plan
    report: Report
    hashes: Mapping[str, str]
    loads: str


_TITLES = {
    "symbiotic": "symbiotic form",
    "original": "back in the form of its family",
    "understanding": "understanding export",
}


def write_card(path: Path, facts: Facts) -> None:
    """Write the README, with the metadata that the Hugging Face hub reads."""
    path.write_text(card(facts), encoding="utf-8")


def card(facts: Facts) -> str:
    """The README's text."""
    report = facts.report
    tags = "\n".join(f"- {tag}" for tag in (report.family, "mixture-of-experts"))
    left = "\n".join(f"| `{part}` | {count:,} |" for part, count in report.left_out.items()) or "| nothing | 0 |"
    hashes = "\n".join(f"| `{file}` | `{digest}` |" for file, digest in facts.hashes.items())
    notes = "".join(f"- {note}\n" for note in report.notes)
    written = ", ".join(f"{name} {version}" for name, version in versions().items())
    recipe = hashlib.sha256(facts.recipe.resolved_yaml().encode()).hexdigest()
    active = ", ".join(f"{part.total:,} for a `{modality}` token" for modality, part in facts.plan.active.items())
    return f"""---
library_name: transformers
pipeline_tag: {"image-text-to-text" if "ImageText" in facts.loads else "text-generation"}
tags:
{tags}
---

# {facts.recipe.recipe.name}: {_TITLES[report.target]}

{_opening(facts)}

## What is in it

- {report.parameters:,} parameters in {report.files} {"file" if report.files == 1 else "files"}, {words(report.nbytes)}
{notes}
{_groups(facts.plan)}

## Where it comes from

- Recipe: `{facts.recipe.recipe.name}`, whose resolved text has the SHA-256 `{recipe}`
- The recipe's model: {facts.plan.parameters.total:,} parameters, of which {active}
- Written with {written}

| file of the source | SHA-256 |
|---|---|
{hashes}

## What was left out

| part | parameters |
|---|---|
{left}

## How it was checked

{report.check.words()[0].upper()}{report.check.words()[1:]}.
"""


def _opening(facts: Facts) -> str:
    family = facts.report.family
    if facts.report.target == "symbiotic":
        before = "import smoe_cli  # registers the class with transformers\n"
        what = f"A `{family}` whose experts are split into groups by modality, with a router for each."
        after = "Text goes through this class; images are understood and drawn with the `smoe` command."
    else:
        before, after = "", "It loads without the package that wrote it."
        what = (
            f"A plain `{family}` checkpoint: every expert in its place and order."
            if facts.report.target == "original"
            else f"What serves text in a multimodal Mixture-of-Experts model, as a plain `{family}` checkpoint."
        )
    return f"""{what} {after}

```python
{before}from transformers import {facts.loads}, AutoTokenizer

model = {facts.loads}.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```"""


def _groups(plan: Plan) -> str:
    rows = ["| group | serves | experts a layer | which |", "|---|---|---|---|"]
    for group in plan.groups:
        which = f"copies of `{group.mounted_from}`" if group.mounted_from else _which(group.experts)
        rows.append(f"| `{group.name}` | {', '.join(group.modalities)} | {group.size} | {which} |")
    if any(plan.promoted):
        rows.append(f"| promoted | all | {len(plan.promoted[0])} | {_which(plan.promoted)} |")
    return "\n".join(rows)


def _which(experts: tuple[tuple[int, ...], ...]) -> str:
    if len(set(experts)) == 1:
        return _ranges(experts[0])
    return "; ".join(f"layer {layer}: {_ranges(picks)}" for layer, picks in enumerate(experts))


def _ranges(indices: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) → `0–2, 5`."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)

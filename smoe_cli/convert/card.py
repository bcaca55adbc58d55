"""The README of an export: what it is, where it comes from, what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from smoe_cli.convert.verify import Check
from smoe_cli.plan import GroupPlan


@dataclass(frozen=True)
class Provenance:
    """Facts about an export. `experts`: per layer, in the source. `kept`: parameters. `dropped`: tensor → parameters."""

    recipe: str
    family: str
    source_sha256: str
    group: GroupPlan
    experts: int
    kept: int
    dropped: dict[str, int]
    check: Check
    versions: dict[str, str]

    def dropped_parts(self) -> dict[str, int]:
        """Parameters left out, by part: `experts.<group>`, `router.<group>`, `vision`, `projector`, `latents`."""
        parts: Counter[str] = Counter()
        for name, numel in self.dropped.items():
            parts[_part(name)] += numel
        return dict(parts)


def _part(name: str) -> str:
    words = name.split(".")
    for word in ("router", "experts"):
        if words[0] == "backbone" and word in words:
            return f"{word}.{words[words.index(word) + 1]}"
    return words[0]


def card(facts: Provenance) -> str:
    """The README's text, with the metadata that the Hugging Face hub reads."""
    dropped = facts.dropped_parts()
    rows = "\n".join(f"| `{part}` | {count:,} |" for part, count in dropped.items()) or "| nothing | 0 |"
    same = len(set(facts.group.experts)) == 1
    experts = (
        f"experts {_ranges(facts.group.experts[0])} of every layer"
        if same
        else "; ".join(f"layer {layer}: {_ranges(picks)}" for layer, picks in enumerate(facts.group.experts))
    )
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    difference = "are equal bit for bit" if facts.check.difference == 0 else f"differ by at most {facts.check.difference:.3g}"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- {facts.family}
- mixture-of-experts
---

# {facts.recipe}: text export

The text part of a multimodal Mixture-of-Experts model, as a plain `{facts.family}` checkpoint. It loads without the package
that wrote it:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```

## Where it comes from

- Recipe: `{facts.recipe}`
- SHA-256 of the source's `model.safetensors`: `{facts.source_sha256}`
- Expert group: `{facts.group.name}`, which serves {", ".join(facts.group.modalities)}; {facts.group.size} of
  {facts.experts} routed experts a layer ({experts}), renumbered from 0
- Parameters kept: {facts.kept:,}
- Written with {versions}

## What was left out

| part | parameters |
|---|---|
{rows}

## How it was checked

The folder was opened again with `AutoModelForCausalLM` and compared with the source: all tensors are equal, and the logits of
{facts.check.tokens} tokens of fixed text (float32, same kernels) {difference}.
"""


def _ranges(indices: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) → `0–2, 5`."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)

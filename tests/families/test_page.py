"""The tables of docs/adding-a-family.md say what the data says, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from smoe_cli.families import ANATOMIES, DENSE, Anatomy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adding-a-family.md").read_text(encoding="utf-8")


def code(*words: str | None) -> str:
    return ", ".join(f"`{word}`" for word in words if word) or "–"


def routing(family: str, anatomy: Anatomy) -> str:
    rule = anatomy.renormalise
    cells = [
        code(family),
        anatomy.scoring,
        code(anatomy.bias),
        code(rule) if isinstance(rule, str) else {True: "always", False: "never"}[rule],
        code(anatomy.scaling),
        code(*anatomy.limits or ()),
        code(anatomy.shared) + (", gated" if anatomy.shared_gate else ""),
    ]
    return f"| {' | '.join(cells)} |"


def images(family: str, anatomy: Anatomy) -> str:
    paths = [(anatomy.decoder,), (anatomy.vision,), anatomy.projector]
    cells = [code(family), *(code(*(f"{path}.*" for path in some)) for some in paths)]
    cells += [code(*anatomy.image_tokens or ()), code(anatomy.temporal_patch_size) if anatomy.temporal_patch_size else "1"]
    return f"| {' | '.join(cells)} |"


def rows(head: str) -> list[str]:
    """The rows below the table head that begins so."""
    lines = PAGE.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(head)) + 2
    return lines[start : next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))]


def test_how_tokens_are_routed() -> None:
    assert rows("| family | scoring") == [routing(*item) for item in sorted(ANATOMIES.items())]


def test_how_families_see() -> None:
    seeing = [images(*item) for item in sorted(ANATOMIES.items()) if item[1].multimodal]
    assert rows("| family | decoder") == seeing
    assert all(anatomy.positions == ("mrope" if anatomy.multimodal else "rope") for anatomy in ANATOMIES.values())
    assert all(anatomy.decoder == "model" for anatomy in (*ANATOMIES.values(), *DENSE.values()) if not anatomy.multimodal)


def test_dense_families() -> None:
    assert f"can be upcycled: {code(*sorted(DENSE))}." in PAGE


def test_only_one_family_needs_rules() -> None:
    assert [family for family, anatomy in ANATOMIES.items() if anatomy.on_disk] == ["ernie4_5_vl_moe"]


def test_files_and_tests_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:tests|smoe_cli)/[\w/]+\.py)`", PAGE))
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []
    here = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", PAGE):
        assert f"def {name}(" in here

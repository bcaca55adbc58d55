"""The recipe as written, with line numbers that are not copied along, and comments and keys set apart."""

from __future__ import annotations

import re

from smoe_cli.report.load import Run
from smoe_cli.report.markup import Html, el, join, missing

LETTERS = 60_000
"""Most characters shown of a file."""

KEY = re.compile(r"(\s*(?:- +)*)([\w.-]+)(:)(?=\s|$)")


def recipe(run: Run, most: int = LETTERS) -> Html:
    """Both texts, each to `most` characters: as written, and folded away as resolved."""
    parts = (
        [code(run.text, "recipe", most)]
        if run.text
        else [missing("recipe.yaml is missing: the recipe as written is not known.")]
    )
    if run.resolved:
        parts.append(
            el(
                "details",
                el("summary", "As resolved: includes, overrides and defaults filled in"),
                code(run.resolved, "resolved", most),
            )
        )
    return join(parts)


def code(text: str, name: str, most: int = LETTERS) -> Html:
    """Numbered lines; line 12 can be linked to as `#<name>-12`."""
    shown = text if len(text) <= most else text[:most].rsplit("\n", 1)[0] + "\n# … cut here for the report"
    lines = [
        el("span", highlight(line), class_="line", id=f"{name}-{i}")
        for i, line in enumerate(shown.rstrip().splitlines(), start=1)
    ]
    return el("pre", el("code", join(lines, "\n")), class_="code", tabindex=0, role="region", aria_label=f"YAML: {name}")


def highlight(line: str) -> Html:
    """One line of YAML: its key and its comment marked, everything escaped."""
    cut = comment_start(line)
    before, comment = line[:cut], line[cut:]
    key = KEY.match(before)
    marked = join([key[1], el("b", key[2]), key[3], before[key.end() :]]) if key else join([before])
    return join([marked, el("i", comment)]) if comment else marked


def comment_start(line: str) -> int:
    """Where the comment begins: a `#` at the start or after a space, outside quotes. The line's length when there is none."""
    quote = ""
    for index, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (index == 0 or line[index - 1] in " [{,:"):
            quote = character
        elif character == "#" and (index == 0 or line[index - 1].isspace()):
            return index
    return len(line)

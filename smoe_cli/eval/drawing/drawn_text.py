"""Task `drawn-text`: strings that the model was never trained on are drawn, and an OCR model says what can be read."""

from __future__ import annotations

import hashlib

from smoe_cli.data.rendered import Rendered, RenderedTextSource
from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.captions import drawn_source
from smoe_cli.eval.drawing.clip_score import standard_error
from smoe_cli.eval.drawing.drawings import draw_captions
from smoe_cli.eval.drawing.judge import Judge
from smoe_cli.eval.drawing.png import drawing_settings
from smoe_cli.eval.models import Asking
from smoe_cli.eval.predictions import Prediction
from smoe_cli.eval.provenance import versions
from smoe_cli.eval.results import Count, Metric, Result
from smoe_cli.recipe.measures import DrawnText
from smoe_cli.recipe.models import RenderedText

RELIABLE = 0.95
"""A judge that reads a smaller share of true renderings says little of drawings."""


def run_drawn_text(asking: Asking, task: DrawnText) -> Result:
    """Draw held-out strings of a `rendered-text` source with task `t2i`, and have them read.

    The judge also reads true renderings of the same strings: no drawing can be read better than these, on average.
    """
    drawer = asking.opened.drawer(task.task)
    spec = drawn_source(asking.opened.recipe, task.source, task.task)
    if not isinstance(spec, RenderedText):
        raise UserError(f"{task.task}: `{task.source}` has kind `{spec.kind}`", "name a source of kind `rendered-text`")
    judge = Judge()
    heldout = RenderedTextSource(spec.model_copy(update={"split": "heldout"}), task.seed)
    renderings = [heldout.sample(index) for index in range(task.strings)]
    captions = [one.caption_long if spec.captions == "long" else one.text for one in renderings]
    on_true = Count(sum(agree(judge.read(one.image), one.text) for one in renderings), task.strings)
    read: list[str] = []
    for images in draw_captions(asking, task.task, captions, task.seed, task.keep):
        read += map(judge.read, images)
    shares = [likeness(found, one.text) for found, one in zip(read, renderings, strict=True)]
    right = [agree(found, one.text) for found, one in zip(read, renderings, strict=True)]
    groups: dict[str, Count] = {}
    for one, correct in sorted(zip(renderings, right, strict=True), key=lambda pair: len(pair[0].text)):
        group = f"{len(one.text)} characters"
        groups[group] = groups.get(group, Count()) + Count(int(correct), 1)
    weak = f"the judge itself reads only {on_true.correct} of {on_true.total} true renderings of these strings"
    return Result(
        task=task.task,
        name=task.task,
        metrics={
            f"acc/{judge.name}": Metric.share(Count(sum(right), len(right))),
            f"char_acc/{judge.name}": Metric(sum(shares) / len(shares), standard_error(shares)),
        },
        groups=groups,
        details={
            "judge_on_true_renderings": {"correct": on_true.correct, "total": on_true.total},
            "different_strings": len({one.text for one in renderings}),
        },
        protocol={
            "source": task.source,
            "split": "heldout",
            "seed": task.seed,
            "strings": task.strings,
            "sampling": drawing_settings(drawer.sampling),
            "judge": judge.facts,
            "score": "acc: read as the string; char_acc: 1 − edit distance / length of the longer",
            "prompt_sha256": hashlib.sha256("\0".join(captions).encode()).hexdigest(),
        },
        hashes={"data": _hash(renderings)},
        versions=versions("rapidocr-onnxruntime", "onnxruntime"),
        predictions=tuple(
            Prediction(str(index), correct=correct, facts={"caption": caption, "expected": one.text, "read": found})
            for index, (correct, caption, one, found) in enumerate(zip(right, captions, renderings, read, strict=True))
        ),
        warnings=(weak,) if on_true.share < RELIABLE else (),
    )


def _hash(renderings: list[Rendered]) -> dict[str, str | int]:
    digest = hashlib.sha256()
    for one in renderings:
        digest.update(f"{one.text}\0".encode() + one.image.tobytes())
    return {"sha256": digest.hexdigest(), "samples": len(renderings)}


def normalised(text: str) -> str:
    """As the judge's facts say: stripped, case folded."""
    return text.strip().casefold()


def agree(read: str, expected: str) -> bool:
    """Whether what was read is the string."""
    return normalised(read) == normalised(expected)


def likeness(read: str, expected: str) -> float:
    """1 − edit distance / length of the longer, 0–1: 1 when equal, 0 when nothing is."""
    first, second = normalised(read), normalised(expected)
    longest = max(len(first), len(second))
    return 1 - edit_distance(first, second) / longest if longest else 1.0


def edit_distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and replacements that make one string the other (Levenshtein)."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]

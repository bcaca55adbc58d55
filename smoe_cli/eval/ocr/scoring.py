"""OCRBench's scoring rules and its groups (Liu et al. 2024, arXiv 2305.07895; the benchmark's own script)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

HANDWRITTEN_MATHS = "HME100k"
"""The dataset whose answers are LaTeX: compared with case, without spaces."""

TEXT_RECOGNITION = "Text Recognition"

TYPES: dict[str, tuple[str, int]] = {
    "Regular Text Recognition": (TEXT_RECOGNITION, 50),
    "Irregular Text Recognition": (TEXT_RECOGNITION, 50),
    "Artistic Text Recognition": (TEXT_RECOGNITION, 50),
    "Handwriting Recognition": (TEXT_RECOGNITION, 50),
    "Digit String Recognition": (TEXT_RECOGNITION, 50),
    "Non-Semantic Text Recognition": (TEXT_RECOGNITION, 50),
    "Scene Text-centric VQA": ("Scene Text-centric VQA", 200),
    "Doc-oriented VQA": ("Doc-oriented VQA", 200),
    "Key Information Extraction": ("Key Information Extraction", 200),
    "Handwritten Mathematical Expression Recognition": ("Handwritten Mathematical Expression Recognition", 100),
}
"""Question type → (group, number of questions in the full set)."""

DATASETS = frozenset(
    """IIIT5K svt IC13_857 IC15_1811 svtp ct80 cocotext ctw totaltext HOST WOST WordArt IAM ReCTS ORAND NonSemanticText
    SemanticText STVQA textVQA ocrVQA ESTVQA ESTVQA_cn docVQA infographicVQA ChartQA ChartQA_Human FUNSD SROIE POIE
    HME100k""".lower().split()
)
"""Names in the benchmark's column `dataset`, in lower case."""

RENDERED = "rendered-text"
"""Column `dataset` of the held-out strings that this package draws."""

FOLDED = {0x3000: " "} | {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
"""Fullwidth code point → ASCII, as lmms-eval folds since 0.7.3: `！` … `～` and the ideographic space, and nothing else."""


def normalise(text: str, dataset: str, fold_fullwidth: bool = False) -> str:
    """A prediction or an answer as it is compared. fold_fullwidth: lmms-eval's rule instead of the benchmark's own."""
    if dataset == HANDWRITTEN_MATHS:
        return text.strip().replace("\n", " ").replace(" ", "")
    if fold_fullwidth:
        text = text.translate(FOLDED)
    return text.lower().strip().replace("\n", " ")


def is_correct(prediction: str, answers: Sequence[str], dataset: str, fold_fullwidth: bool = False) -> bool:
    """Whether any normalised answer is a substring of the normalised prediction."""
    predicted = normalise(prediction, dataset, fold_fullwidth)
    return any(normalise(answer, dataset, fold_fullwidth) in predicted for answer in answers)


def is_exact(prediction: str, answers: Sequence[str], dataset: str, fold_fullwidth: bool = False) -> bool:
    """Whether the normalised prediction is one of the normalised answers. Not OCRBench's score: long answers gain nothing."""
    predicted = normalise(prediction, dataset, fold_fullwidth)
    return predicted in [normalise(answer, dataset, fold_fullwidth) for answer in answers]


def group_of(question_type: str) -> str:
    """The group of a question type; a type that OCRBench does not have is a group of its own."""
    return TYPES.get(question_type, (question_type, 0))[0]


def name_of(kinds: Sequence[tuple[str, str]]) -> str:
    """What questions of these (dataset, question type) are: `ocrbench` if all are its own, `rendered-ocr` if all are ours, else
    `custom-ocr`."""
    if _foreign(kinds) is None:
        return "ocrbench"
    return "rendered-ocr" if all(dataset == RENDERED for dataset, _ in kinds) else "custom-ocr"


def set_warnings(kinds: Sequence[tuple[str, str]]) -> list[str]:
    """Why a score on questions of these (dataset, question type) is not comparable with a published one."""
    if name_of(kinds) == "rendered-ocr":
        return []
    if foreign := _foreign(kinds):
        return [f"not OCRBench's own questions: {foreign}"]
    found = Counter(question_type for _, question_type in kinds)
    wrong = [f"{name} {found[name]} of {count}" for name, (_, count) in TYPES.items() if found[name] != count]
    full = sum(count for _, count in TYPES.values())
    return [f"not OCRBench's full set: {len(kinds)} of {full} questions ({', '.join(wrong)})"] if wrong else []


def _foreign(kinds: Sequence[tuple[str, str]]) -> str | None:
    """The first dataset or question type that OCRBench does not have."""
    for dataset, question_type in kinds:
        if dataset.lower() not in DATASETS:
            return f"dataset `{dataset}`"
        if question_type not in TYPES:
            return f"question type `{question_type}`"
    return None

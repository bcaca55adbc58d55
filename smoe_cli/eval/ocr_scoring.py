"""OCRBench's scoring rules and its groups (Liu et al. 2024, arXiv 2305.07895; the benchmark's own script)."""

from __future__ import annotations

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


def normalise(text: str, dataset: str) -> str:
    """A prediction or an answer as it is compared."""
    if dataset == HANDWRITTEN_MATHS:
        return text.strip().replace("\n", " ").replace(" ", "")
    return text.lower().strip().replace("\n", " ")


def is_correct(prediction: str, answers: Sequence[str], dataset: str) -> bool:
    """Whether any normalised answer is a substring of the normalised prediction."""
    predicted = normalise(prediction, dataset)
    return any(normalise(answer, dataset) in predicted for answer in answers)


def is_exact(prediction: str, answers: Sequence[str], dataset: str) -> bool:
    """Whether the normalised prediction is one of the normalised answers. Not OCRBench's score: long answers gain nothing."""
    return normalise(prediction, dataset) in [normalise(answer, dataset) for answer in answers]


def group_of(question_type: str) -> str:
    """The group of a question type; a type that OCRBench does not have is a group of its own."""
    return TYPES.get(question_type, (question_type, 0))[0]

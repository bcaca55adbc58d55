"""The words for what is measured at the end of a phase: one task each."""

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


class OcrBench(Node):
    """OCRBench v1."""

    task: Literal["ocrbench"]
    """`ocrbench`"""
    data: str
    """Folder or file with OCRBench's columns."""
    limit: Positive | None = None
    """First questions only."""


class Mmlu(Node):
    """MMLU, prompt and scoring of lm-evaluation-harness."""

    task: Literal["mmlu"]
    """`mmlu`"""
    data: str
    """Folder in the layout of cais/mmlu."""
    shots: Annotated[int, Field(ge=0, le=5)] = 5
    """Examples in the prompt."""
    limit: Positive | None = None
    """First questions of each subject only."""


class ArcEasy(Node):
    """ARC-Easy, prompt and scoring of lm-evaluation-harness: 0 shots, log-likelihood of each choice's text."""

    task: Literal["arc-easy"]
    """`arc-easy`"""
    data: str
    """File of questions, or a folder in the layout of allenai/ai2_arc."""
    split: Literal["test", "validation", "train"] | None = None
    """Folders: split to ask, `test` unless given; published numbers are of `test`."""
    limit: Positive | None = None
    """First questions only."""


class BitsPerByte(Node):
    """How well the model predicts texts: mean negative log2-likelihood of a byte, lower is better."""

    task: Literal["bits-per-byte"]
    """`bits-per-byte`"""
    source: str | None = None
    """A `python-docs` source with `split: train`; its held-out passages are measured. Either this or `data`."""
    data: str | None = None
    """A table (.jsonl, .json, .csv, .parquet), or a folder of such files, with the texts to measure."""
    column: str = "text"
    """With `data`: the column of texts."""
    window: Positive | None = None
    """Longest stretch of tokens predicted in one go; default: `data.sequence_length`."""
    limit: Positive | None = None
    """First texts only."""


EvalTask = Annotated[RenderedOcr | OcrBench | Mmlu | ArcEasy | BitsPerByte, Field(discriminator="task")]


class Evaluation(Node):
    """What is measured at the end of each phase."""

    tasks: tuple[EvalTask, ...] = ()
    """Tasks."""

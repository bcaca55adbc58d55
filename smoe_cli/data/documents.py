"""From a sample to a document: the tokens of one training example, in the order in which the model sees them.

    lm    <bos> text <eos>                                      every token after <bos> is predicted
    mmu   <bos> <image> vit… </image> question "\\n" answer <eos>  the answer and <eos> are predicted
    t2i   <bos> caption <image> vae… </image>                    no token is predicted; the image is denoised

Without a <bos> (see `special`) the first token of a text is not predicted, and a dropped caption leaves only <image>. An empty
question takes its "\\n" with it. Question and answer are encoded apart, so that a prompt without its answer has the
same ids. Text never yields a special token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from smoe_cli.data.images import pixels
from smoe_cli.data.positions import image_extent, image_positions, text_positions, vae_layout, vit_layout
from smoe_cli.data.sample import BadRow
from smoe_cli.data.special import check_fits, special_ids
from smoe_cli.data.tokenizer import TextEncoder
from smoe_cli.recipe.nodes import TEXT, VAE, VIT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smoe_cli.plan import Plan
    from smoe_cli.recipe.models import Recipe

NO_TARGET = -100


class Column(IntEnum):
    """Rows of a document's `columns`."""

    IDS = 0
    TARGETS = 1
    MODALITY = 2
    IMAGE = 3
    POSITION = 4
    """Temporal position; the only one of most families."""
    VERTICAL = 5
    HORIZONTAL = 6


POSITIONS = slice(Column.POSITION, Column.HORIZONTAL + 1)
"""The three positions of a token."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image to learn to draw, with what flow matching adds to it."""

    pixels: np.ndarray
    """(3, H, W) float32 in [-1, 1]."""
    timestep: float
    """In (0, 1); 1 is pure noise."""
    noise: np.ndarray
    """(vae tokens, latent values per token) float32."""


@dataclass(frozen=True, slots=True)
class Document:
    """The tokens of one example and its images."""

    columns: np.ndarray
    """(7, n) int64, see `Column`. TARGETS holds the token to predict at a position, or -100; IMAGE is 0 in an image, or -1."""
    seen: tuple[np.ndarray, ...] = ()
    """Images to understand, (3, H, W) float32 in [-1, 1]."""
    drawn: tuple[Drawing, ...] = ()
    """Images to draw."""

    def __len__(self) -> int:
        return self.columns.shape[1]

    @property
    def has_image(self) -> bool:
        """Whether it must not be cut."""
        return bool(self.seen or self.drawn)

    def cut(self, at: int) -> tuple[Document, Document]:
        """A text document as two. The last token of the first part still predicts the first token of the second, so that each
        token is predicted once; positions of the second part start at 0 again."""
        assert not self.has_image
        head, tail = self.columns[:, :at], self.columns[:, at:].copy()
        tail[POSITIONS] -= tail[POSITIONS, :1]
        return replace(self, columns=head), replace(self, columns=tail)


@dataclass
class _Tokens:
    """A document being written, token by token. kind: how positions run inside an image, see `positions`."""

    pad: int
    kind: str
    ids: list[int] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)
    modality: list[int] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    next: int = 0
    """The position after the last one."""

    def text(self, ids: Sequence[int], predicted: bool = False) -> _Tokens:
        n = len(ids)
        self.ids += ids
        self.wanted += [predicted] * n
        self.modality += [TEXT] * n
        self.positions.append(text_positions(self.next, n))
        self.next += n
        return self

    def image(self, grid: tuple[int, int], modality: int) -> _Tokens:
        n = grid[0] * grid[1]
        self.ids += [self.pad] * n
        self.wanted += [False] * n
        self.modality += [modality] * n
        self.positions.append(image_positions(self.kind, self.next, grid))
        self.next += image_extent(self.kind, grid)
        return self

    def columns(self) -> np.ndarray:
        """(7, n) int64."""
        columns = np.empty((len(Column), len(self.ids)), np.int64)
        columns[Column.IDS] = self.ids
        columns[Column.TARGETS, :-1] = np.where(self.wanted[1:], self.ids[1:], NO_TARGET)
        columns[Column.TARGETS, -1] = NO_TARGET
        columns[Column.MODALITY] = self.modality
        columns[Column.IMAGE] = np.where(columns[Column.MODALITY] == TEXT, -1, 0)
        columns[POSITIONS] = np.concatenate(self.positions, axis=1)
        return columns


class DocumentBuilder:
    """Builds documents for a model: knows its tokenizer, image sizes, tokens per image and their positions.

    Raises UserError when the tokenizer has more tokens than the model's vocabulary, or lacks one that documents need.
    """

    def __init__(self, recipe: Recipe, plan: Plan, tokenizer: PreTrainedTokenizerFast):
        check_fits(tokenizer, recipe, plan)
        self.special = special_ids(tokenizer, recipe, plan)
        self._encoder = TextEncoder(tokenizer)
        self.vae_tokens, self.latent_dim = plan.vae_tokens, plan.latent_dim
        self.vit_size, self.vit_grid = vit_layout(recipe, plan)
        self.vae_size, self.vae_grid = vae_layout(recipe)
        self._kind = plan.image_positions

    def lm(self, text: str) -> Document:
        """A text to continue. Raises BadRow when it is not valid Unicode; so do the others."""
        tokens = self._start().text([*self._encode(text), self.special.eos], predicted=True)
        return Document(tokens.columns())

    def mmu(self, image: Image.Image, question: str, answer: str) -> Document:
        """An image, a question (may be empty) and its answer."""
        tokens = self._question(question).text([*self._encode(answer), self.special.eos], predicted=True)
        return Document(tokens.columns(), seen=(pixels(image, self.vit_size),))

    def to_answer(self, image: Image.Image, question: str) -> Document:
        """`mmu` up to where the answer begins: the prompt when answering."""
        return Document(self._question(question).columns(), seen=(pixels(image, self.vit_size),))

    def t2i(self, image: Image.Image, caption: str | None, timestep: float, noise: np.ndarray) -> Document:
        """A caption (None: dropped) and the image it describes."""
        tokens = self._caption(caption).image(self.vae_grid, VAE).text(self._closing)
        return Document(tokens.columns(), drawn=(Drawing(pixels(image, self.vae_size), timestep, noise),))

    def to_draw(self, caption: str | None) -> Document:
        """`t2i` up to where the image begins: the prompt when drawing."""
        return Document(self._caption(caption).columns())

    def _question(self, question: str) -> _Tokens:
        tokens = self._start().text(self._opening).image(self.vit_grid, VIT).text(self._closing)
        return tokens.text(self._encode(question + "\n")) if question else tokens

    def _caption(self, caption: str | None) -> _Tokens:
        return self._start().text(self._encode(caption) if caption is not None else []).text(self._opening)

    @property
    def _opening(self) -> list[int]:
        assert self.special.image is not None
        return [self.special.image]

    @property
    def _closing(self) -> list[int]:
        assert self.special.image_end is not None
        return [self.special.image_end]

    def _encode(self, text: str) -> list[int]:
        try:
            return self._encoder(text)
        except ValueError as error:
            raise BadRow("text is not valid Unicode") from error

    def _start(self) -> _Tokens:
        bos = self.special.bos
        return _Tokens(self.special.pad, self._kind).text([] if bos is None else [bos])


def shifted(t: Any, shift: float) -> Any:
    """t ← s·t / (1 + (s−1)·t) (Esser et al. 2024, section 5.3.2), for a number or a tensor."""
    return shift * t / (1 + (shift - 1) * t)


def shifted_timestep(normal: float, shift: float) -> float:
    """t = sigmoid(normal), then shifted; kept inside (0, 1) in float32."""
    return float(np.clip(shifted(1 / (1 + np.exp(-normal)), shift), 1e-6, 1 - 1e-6))

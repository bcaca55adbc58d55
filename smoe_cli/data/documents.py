"""From a sample to a document: the tokens of one training example, in the order in which the model sees them.

    lm    <bos> text <eos>                                      every token after <bos> is predicted
    mmu   <bos> <image> vit… </image> question "\\n" answer <eos>  the answer and <eos> are predicted
    t2i   <bos> caption <image> vae… </image>                    no token is predicted; the image is denoised

An empty question takes its "\\n" with it. Question and answer are encoded apart, so that a prompt without its answer has the
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
from smoe_cli.data.sample import BadRow
from smoe_cli.data.tokenizer import TextEncoder, special_ids
from smoe_cli.errors import UserError
from smoe_cli.recipe.models import TEXT, VAE, VIT

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
    """(5, n) int64, see `Column`. TARGETS holds the token to predict at a position, or -100; IMAGE is 0 in an image, or -1."""
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
        tail[Column.POSITION] -= tail[Column.POSITION, 0]
        return replace(self, columns=head), replace(self, columns=tail)


@dataclass
class _Tokens:
    """A document being written, token by token."""

    pad: int
    shared_positions: bool
    ids: list[int] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)
    modality: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)

    def text(self, ids: Sequence[int], predicted: bool = False) -> _Tokens:
        n, start = len(ids), self._next_position()
        self.ids += ids
        self.wanted += [predicted] * n
        self.modality += [TEXT] * n
        self.position += range(start, start + n)
        return self

    def image(self, n: int, modality: int) -> _Tokens:
        start = self._next_position()
        self.ids += [self.pad] * n
        self.wanted += [False] * n
        self.modality += [modality] * n
        self.position += [start] * n if self.shared_positions else range(start, start + n)
        return self

    def _next_position(self) -> int:
        return self.position[-1] + 1 if self.position else 0

    def columns(self) -> np.ndarray:
        """(5, n) int64."""
        columns = np.empty((len(Column), len(self.ids)), np.int64)
        columns[Column.IDS] = self.ids
        columns[Column.TARGETS, :-1] = np.where(self.wanted[1:], self.ids[1:], NO_TARGET)
        columns[Column.TARGETS, -1] = NO_TARGET
        columns[Column.MODALITY] = self.modality
        columns[Column.IMAGE] = np.where(columns[Column.MODALITY] == TEXT, -1, 0)
        columns[Column.POSITION] = self.position
        return columns


class DocumentBuilder:
    """Builds documents for a model: knows its tokenizer, image sizes and tokens per image.

    Raises UserError when the tokenizer has more tokens than the model's vocabulary.
    """

    def __init__(self, recipe: Recipe, plan: Plan, tokenizer: PreTrainedTokenizerFast):
        if len(tokenizer) > plan.vocab_size:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens with the special ones, the model's vocabulary {plan.vocab_size}",
                help=f"set model.backbone.scratch.vocab_size to at least {len(tokenizer)}",
            )
        self.special = special_ids(tokenizer)
        self._encoder = TextEncoder(tokenizer)
        self.vit_tokens, self.vae_tokens, self.latent_dim = plan.vit_tokens, plan.vae_tokens, plan.latent_dim
        model = recipe.model
        self.vit_size: tuple[int, int] = model.vision.image_size if model.vision else (0, 0)
        self.vae_size: tuple[int, int] = model.latents.image_size if model.latents else (0, 0)
        self._shared_positions = model.image_positions == "shared"

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
        tokens = self._caption(caption).image(self.vae_tokens, VAE).text([self.special.image_end])
        return Document(tokens.columns(), drawn=(Drawing(pixels(image, self.vae_size), timestep, noise),))

    def to_draw(self, caption: str | None) -> Document:
        """`t2i` up to where the image begins: the prompt when drawing."""
        return Document(self._caption(caption).columns())

    def _question(self, question: str) -> _Tokens:
        tokens = self._start().text([self.special.image]).image(self.vit_tokens, VIT).text([self.special.image_end])
        return tokens.text(self._encode(question + "\n")) if question else tokens

    def _caption(self, caption: str | None) -> _Tokens:
        return self._start().text(self._encode(caption) if caption is not None else []).text([self.special.image])

    def _encode(self, text: str) -> list[int]:
        try:
            return self._encoder(text)
        except ValueError as error:
            raise BadRow("text is not valid Unicode") from error

    def _start(self) -> _Tokens:
        return _Tokens(self.special.pad, self._shared_positions).text([self.special.bos])


def shifted(t: Any, shift: float) -> Any:
    """t ← s·t / (1 + (s−1)·t) (Esser et al. 2024, section 5.3.2), for a number or a tensor."""
    return shift * t / (1 + (shift - 1) * t)


def shifted_timestep(normal: float, shift: float) -> float:
    """t = sigmoid(normal), then shifted; kept inside (0, 1) in float32."""
    return float(np.clip(shifted(1 / (1 + np.exp(-normal)), shift), 1e-6, 1 - 1e-6))

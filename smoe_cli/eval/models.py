"""A model that is ready to be measured, whatever it is: one of ours, or a plain one of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from transformers import PreTrainedModel

from smoe_cli.errors import UserError
from smoe_cli.eval.drawing.generation import check_draws, check_reads
from smoe_cli.eval.limits import positions
from smoe_cli.eval.opening.readers import OwnReader, PlainReader
from smoe_cli.eval.protocols import Answerer
from smoe_cli.eval.text.likelihood import BatchedScorer
from smoe_cli.model.inference import draw
from smoe_cli.model.model import SymbioticModel
from smoe_cli.recipe.models import Recipe, Sampling

Kind = Literal["symbiotic", "causal-lm", "image-text-to-text"]


@dataclass(frozen=True)
class OpenModel:
    """A model, its tokenizer, and for one of transformers that sees images its processor, or why it has none."""

    model: SymbioticModel | PreTrainedModel
    tokenizer: Any
    processor: Any | UserError = None
    identity: dict[str, Any] = field(default_factory=dict)
    """What a result says of the model: path, sha256 of the weights, …"""

    @property
    def kind(self) -> Kind:
        """What can be asked of it: `causal-lm` reads texts only, the others images too if they were made for it."""
        if isinstance(self.model, SymbioticModel):
            return "symbiotic"
        return "causal-lm" if self.processor is None else "image-text-to-text"

    @property
    def recipe(self) -> Recipe | None:
        """Of one of ours."""
        return self.model.recipe if isinstance(self.model, SymbioticModel) else None

    @property
    def causal_lm(self) -> Any:
        """The transformers model that predicts tokens; of one of ours its backbone, for which every token is text."""
        return self.model.backbone if isinstance(self.model, SymbioticModel) else self.model

    def scorer(self, batch_size: int) -> BatchedScorer:
        """It as a `Scorer`."""
        return BatchedScorer(self.causal_lm, positions(self.causal_lm, self.tokenizer), batch_size)

    def reader(self, task: str) -> Answerer:
        """It as an `Answerer`. Raises UserError, naming the task, when it does not see images."""
        if isinstance(self.model, SymbioticModel):
            check_reads(self.model.recipe)
            return OwnReader(self.model, self.tokenizer)
        if isinstance(self.processor, UserError):
            raise self.processor
        if self.processor is None:
            raise UserError(f"task `{task}` shows images, which a plain language model does not see")
        return PlainReader(self.model, self.processor)

    def drawer(self, task: str) -> Drawer:
        """It as something that draws. Raises UserError, naming the task, when it cannot."""
        if not isinstance(self.model, SymbioticModel):
            raise UserError(f"task `{task}` asks for drawings, which a plain model of transformers does not make")
        check_draws(self.model.recipe)
        return Drawer(self.model, self.tokenizer)

    def circumstances(self, batch_size: int) -> dict[str, Any]:
        """What a score may depend on in its last digits."""
        kernels: dict[str, str]
        if isinstance(self.model, SymbioticModel):
            training = self.model.recipe.training
            kernels = {"attention": training.attention, "experts": training.experts}
        else:
            kernels = {"attention": str(self.model.config._attn_implementation)}
        return {"batch_size": batch_size, "device": self.model.device.type, **kernels}


class Drawer:
    """One of our models as something that draws."""

    def __init__(self, model: SymbioticModel, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    @property
    def sampling(self) -> Sampling:
        """How it draws: the recipe's `training.sampling`."""
        return self.model.recipe.training.sampling

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """One RGB image for each prompt, as one batch. The noise of image i depends on seeds[i] alone."""
        return draw(self.model, self.tokenizer, prompts, self.sampling, seeds)


@dataclass(frozen=True)
class Asking:
    """What a task is measured with."""

    opened: OpenModel
    batch_size: int = 8
    """Prompts run at once."""
    out_dir: Path | None = None
    """Where drawn questions and pictures may be kept, under `data/`; None keeps none."""
    tell: Callable[[int, int], None] | None = None
    """Called now and then with (questions done, questions in all)."""
    name: str = ""
    """Of the file of the result, without its ending."""

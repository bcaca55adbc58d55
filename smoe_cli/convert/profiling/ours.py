"""Counting on a model of ours: split experts, numbered as in the backbone that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from smoe_cli.convert.profiling.data import Documents
from smoe_cli.convert.profiling.tally import PADDING, LayerTally, Tally, collect
from smoe_cli.data.batch import RowBuilder, collate
from smoe_cli.data.documents import Document, DocumentBuilder, shifted_timestep
from smoe_cli.data.keys import generator
from smoe_cli.data.sample import BadRow, Sample
from smoe_cli.errors import UserError
from smoe_cli.eval.opening.locate import RECIPE_FILE, model_folder, open_model
from smoe_cli.model.io import open_folder
from smoe_cli.plan.profile import OF_A_MODEL_FOLDER, Profile
from smoe_cli.recipe.nodes import MODALITIES

if TYPE_CHECKING:
    from smoe_cli.convert.profiling.counting import Settings

_MODALITY = {"mmu": "vit", "t2i": "vae"}


def is_ours(path: Path) -> bool:
    """Whether a path means a run directory or a model folder of ours rather than a plain checkpoint."""
    marks = (RECIPE_FILE, f"model/{RECIPE_FILE}", "recipe.resolved.yaml", "metrics.jsonl")
    return any((path / mark).is_file() for mark in marks)


class OwnCounter:
    """A run directory or a model folder that counts. `load` has to be called before `tokens` and `count`.

    Raises UserError when its experts cannot be numbered as in the backbone, or on settings that have no effect on it.
    """

    def __init__(self, path: Path, settings: Settings):
        self.name, self.folder = str(path), model_folder(path)
        opened = open_folder(self.folder, check=False)  # loading the weights checks every file
        self.loaded, self.plan, self._sample = opened.loaded, opened.plan, opened.checkpoint.sample()
        if settings.image_size:
            raise UserError("--image-size: no effect on a model of smoe, whose recipe says how large images are")
        if settings.dtype not in ("auto", "float32"):
            raise UserError(f"--dtype {settings.dtype}: models of smoe compute in float32 here")
        if mounted := [group.name for group in self.plan.groups if group.mounted_from is not None]:
            raise UserError(
                f"{path}: the experts of group `{mounted[0]}` are copies of another group's, without numbers of their own",
                "profile the model before the groups were mounted",
            )
        if any(self.plan.promoted):
            raise UserError(
                f"{path}: its promoted experts are always on, so that how often they are chosen says nothing",
                "profile the checkpoint that it was made from",
            )
        self.max_tokens = settings.max_tokens
        self.draws = self.loaded.recipe.model.latents is not None
        self._experts = 1 + max(max(layer) for group in self.plan.groups for layer in group.experts)

    def check(self, documents: Documents) -> None:
        """Raise UserError unless the model can read these data."""
        modality = _MODALITY.get(documents.task)
        spec = self.loaded.recipe.model
        part = {"vit": spec.vision, "vae": spec.latents}.get(modality or "", spec)
        if part is None:
            what = "pictures to draw" if modality == "vae" else "images"
            missing = "latent interface" if modality == "vae" else "vision encoder"
            raise UserError(f"{documents.name}: has {what}, and {self.name} has no {missing}")

    def empty(self) -> Profile:
        """The profile before anything was counted."""
        backbone = self.plan.source.backbone
        return Profile(
            family=backbone.family,
            sha256=backbone.sha256,
            layers=self.plan.moe_layers,
            experts=self._experts,
            top_k=self.plan.top_k,
            tokens={},
            counts={},
            mass={},
            model=self.name,
            weights=OF_A_MODEL_FOLDER + self._sample,
            pools=backbone.pool_sizes or (self._experts,),
        )

    def load(self) -> OwnCounter:
        """Read tokenizer and weights."""
        self.model, tokenizer = open_model(self.folder)
        self._builder = DocumentBuilder(self.loaded.recipe, self.plan, tokenizer)
        self.tables = []
        layers: Any = self.model.decoder.layers
        for index, layer in enumerate(self.plan.moe_layers):
            block = layers[layer]._symbiotic_block
            table = LayerTally(self._experts)
            self.tables.append(table)
            for number, group in enumerate(self.plan.groups):
                numbers = torch.tensor(group.experts[index], device=self.model.device)
                block.router[group.name].register_forward_hook(partial(_count, table, block, number, numbers))
        return self

    def tokens(self, sample: Sample, position: int = 0) -> Document:
        """The document of a sample, as in training; what is random in it is fixed by its position."""
        builder = self._builder
        if sample.task == "lm":
            document = builder.lm(sample.text)
            return document.cut(self.max_tokens)[0] if len(document) > self.max_tokens else document
        assert sample.image is not None
        if sample.task == "mmu":
            document = builder.mmu(sample.image, sample.question, sample.text)
        else:
            random = generator("profile", position)
            latents = self.loaded.recipe.model.latents
            assert latents is not None
            timestep = shifted_timestep(float(random.standard_normal()), latents.shift)
            noise = random.standard_normal((builder.vae_tokens, builder.latent_dim), dtype="float32")
            document = builder.t2i(sample.image, sample.text, timestep, noise)
        if len(document) > self.max_tokens:
            raise BadRow(
                "longer than --max-tokens", f"{len(document)} tokens, more than {self.max_tokens}, and images are not cut"
            )
        return document

    def count(self, documents: Sequence[Document]) -> Tally:
        """Run a batch, one document a row, and count the routers' choices."""
        rows = []
        for document in documents:
            row = RowBuilder(max(map(len, documents)), self._builder.special.pad)
            row.add(document, source=0)
            rows.append(row.row())
        batch = {key: value.to(self.model.device) for key, value in collate(rows, self._builder).items()}
        with torch.inference_mode():
            self.model(batch, record=False)
        routing = self.model.routing(batch["modality"], batch["document"] >= 0)  # some families route an image's frame with it
        return collect(self.tables, torch.bincount(routing.modality_T[routing.valid_T], minlength=len(MODALITIES)))


def _count(
    table: LayerTally, block: Any, number: int, numbers: torch.Tensor, module: nn.Module, args: object, output: object
) -> None:
    """After the router of group `number`, whose expert i is numbers[i] of the backbone."""
    routing = block.routing
    assert isinstance(output, tuple)
    _, weight_TK, expert_TK = output
    start, end = routing.bounds()[number]
    tokens = slice(start, end) if routing.order_T is None else routing.order_T[start:end]
    modality_T = routing.modality_T[tokens].masked_fill(~routing.valid_T[tokens], PADDING)
    table.add(modality_T, numbers[expert_TK], weight_TK)

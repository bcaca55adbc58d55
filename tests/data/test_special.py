"""Which tokens frame documents and images, for models from scratch and for pretrained backbones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from smoe_cli.data.documents import Column, DocumentBuilder
from smoe_cli.data.special import SpecialIds, special_ids, tokenizer_of
from smoe_cli.data.tokenizer import bytes_tokenizer, read_tokenizer
from smoe_cli.errors import UserError
from smoe_cli.plan import compile_plan
from smoe_cli.recipe.models import Recipe
from tests.data.make import picture
from tests.families.tiny import write_checkpoint
from tests.helpers import tiny
from tests.model.pretrained import pretrained
from tests.model.seeing import FRESH, LATENTS, OWN

WORDS = ["the", "cat", "sat", "[UNK]"]


def write_tokenizer(folder: Path, more: Sequence[str] = (), first: str | None = None, **special: Any) -> Path:
    """A word-level tokenizer of `WORDS` and more; `first`: what it puts in front of a text by itself."""
    vocabulary = {word: i for i, word in enumerate([*WORDS, *more])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if first is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, vocabulary[first])]
        )
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text backbone with 300 rows of embedding and, by its config, end token 2."""
    return write_checkpoint("qwen3_moe", tmp_path_factory.mktemp("text") / "backbone")


@pytest.fixture(scope="module")
def sees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multimodal backbone, whose config says 292 and 293 stand around an image."""
    return write_checkpoint("qwen3_vl_moe", tmp_path_factory.mktemp("sees") / "backbone")


def around(folder: Path, tokenizer: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    return pretrained(folder, **{"model.tokenizer": tokenizer, **changes})


def ids_of(recipe: Recipe) -> SpecialIds:
    plan = compile_plan(recipe)
    tokenizer = tokenizer_of(recipe, plan)
    return special_ids(tokenizer, recipe, plan)


def own(folder: Path, **changes: Any) -> dict[str, Any]:
    """`model.tokenizer` for a folder."""
    return {"kind": "pretrained", "path": str(folder), **changes}


def test_from_scratch_the_built_in_tokenizer_has_all() -> None:
    assert ids_of(tiny()) == SpecialIds(pad=0, bos=1, eos=2, image=3, image_end=4)


def test_a_tokenizer_that_begins_texts_with_bos_begins_documents_with_it(text: Path, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "t", ["<s>", "</s>"], first="<s>", bos_token="<s>", eos_token="</s>")
    recipe = around(text, own(folder))
    assert ids_of(recipe) == SpecialIds(pad=5, bos=4, eos=5, image=None, image_end=None)
    plan = compile_plan(recipe)
    document = DocumentBuilder(recipe, plan, tokenizer_of(recipe, plan)).lm("the cat")
    assert document.columns[Column.IDS].tolist() == [4, 0, 1, 5]
    assert document.columns[Column.TARGETS].tolist() == [0, 1, 5, -100]


@pytest.mark.parametrize("special", [{"eos_token": "</s>"}, {"eos_token": "</s>", "bos_token": "<s>"}])
def test_others_begin_with_their_first_word(text: Path, tmp_path: Path, special: dict[str, str]) -> None:
    """Like Qwen, which has no bos, or models that have one and never used it."""
    folder = write_tokenizer(tmp_path / "t", ["<s>", "</s>"], **special)
    recipe = around(text, own(folder), **{"model.latents": LATENTS})
    plan = compile_plan(recipe)
    tokenizer = tokenizer_of(recipe, plan)
    ids = special_ids(tokenizer, recipe, plan)
    assert (ids.bos, ids.eos, ids.pad) == (None, 5, 5)
    builder = DocumentBuilder(recipe, plan, tokenizer)
    assert builder.lm("the cat").columns[Column.IDS].tolist() == [0, 1, 5]
    assert builder.to_draw(None).columns[Column.IDS].tolist() == [ids.image], "a dropped caption leaves the image's first token"
    assert builder.to_draw(None).columns[Column.POSITION].tolist() == [0]


def test_the_end_token_may_stand_in_the_config(text: Path, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "t")
    assert ids_of(around(text, own(folder))).eos == 2


def test_images_use_unused_rows_of_the_embedding(text: Path, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "t", ["</s>"], eos_token="</s>")
    recipe = around(text, own(folder), **{"model.vision": FRESH})
    ids = ids_of(recipe)
    assert (ids.image, ids.image_end) == (5, 6)
    plan = compile_plan(recipe)
    tokenizer_of(recipe, plan).save_pretrained(tmp_path / "saved")
    assert special_ids(read_tokenizer(str(tmp_path / "saved")), recipe, plan) == ids, "and are found again in a model folder"


def test_an_embedding_never_grows(text: Path, tmp_path: Path) -> None:
    """299 words and the end token fill all rows."""
    folder = write_tokenizer(tmp_path / "t", [f"w{i}" for i in range(295)] + ["</s>"], eos_token="</s>")
    assert ids_of(around(text, own(folder))).image is None, "a model without images needs no more"
    recipe = around(text, own(folder), **{"model.vision": FRESH})
    with pytest.raises(UserError, match="has 302 tokens with the special ones, the model's vocabulary 300") as error:
        ids_of(recipe)
    assert "image_tokens" in str(error.value.help)
    named = ids_of(around(text, own(folder, image_tokens=["w3", "w4"]), **{"model.vision": FRESH}))
    assert (named.image, named.image_end) == (7, 8)


def test_a_larger_tokenizer_is_refused(text: Path, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "t", [f"w{i}" for i in range(400)] + ["</s>"], eos_token="</s>")
    with pytest.raises(UserError, match="has 405 tokens") as error:
        ids_of(around(text, own(folder)))
    assert "the checkpoint's own tokenizer" in str(error.value.help)


@pytest.mark.parametrize(
    ("unused", "message", "help"),
    [
        (0, "`<image>` is not in the tokenizer's vocabulary, and the embedding has no unused row for it", "an image"),
        (1, "`<image>` is not in the tokenizer's vocabulary", "an image"),
        (2, "`<image>` is not in the tokenizer's vocabulary", "`<image>` and `</image>` get unused rows of the embedding"),
    ],
)
def test_named_image_tokens_have_to_exist(text: Path, tmp_path: Path, unused: int, message: str, help: str) -> None:
    """The token that is missing is named, not the one that exists, and what is advised is possible."""
    folder = write_tokenizer(tmp_path / "t", [f"w{i}" for i in range(295 - unused)] + ["</s>"], eos_token="</s>")
    with pytest.raises(UserError) as error:
        ids_of(around(text, own(folder, image_tokens=["<image>", "w290"]), **{"model.vision": FRESH}))
    assert error.value.message == message
    assert str(error.value.help).endswith(help)


def test_named_image_tokens_are_not_advised_to_who_names_them(text: Path, tmp_path: Path) -> None:
    """A tokenizer of 301 with the end token that it lacks: no two names make it fit."""
    folder = write_tokenizer(tmp_path / "t", [f"w{i}" for i in range(297)])
    with pytest.raises(UserError, match="has 301 tokens") as error:
        ids_of(around(text, own(folder, image_tokens=["w3", "w4"]), **{"model.vision": FRESH}))
    assert "image_tokens" not in str(error.value.help)


@pytest.mark.parametrize("tokenizer", [None, {"kind": "bytes"}], ids=["own", "bytes"])
def test_a_multimodal_checkpoint_names_its_own(sees: Path, tokenizer: dict[str, Any] | None) -> None:
    recipe = around(sees, tokenizer, **{"model.vision": OWN})
    ids = ids_of(recipe)
    assert (ids.image, ids.image_end, ids.eos) == (292, 293, 2)
    assert ids.bos == (1 if tokenizer else None), "the built-in tokenizer begins every document with bos"
    plan = compile_plan(recipe)
    document = DocumentBuilder(recipe, plan, tokenizer_of(recipe, plan)).mmu(picture(), "?", "a")
    assert document.columns[Column.IDS].tolist().count(292) == 1
    recipe = around(sees, own(sees, image_tokens=["<image>", "</image>"]), **{"model.vision": OWN})
    assert (ids_of(recipe).image, ids_of(recipe).image_end) == (3, 4), "the recipe's choice wins"


def test_the_default_is_the_checkpoints_own(text: Path) -> None:
    recipe = around(text)
    tokenizer = tokenizer_of(recipe, compile_plan(recipe))
    assert tokenizer.get_vocab() == bytes_tokenizer().get_vocab()
    assert tokenizer.name_or_path == str(text)

"""A model that is ready to be measured: what can be asked of it, and the types that it computes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoe_cli.errors import UserError
from smoe_cli.eval.models import OpenModel
from smoe_cli.eval.opening.locate import open_to_measure, prepare
from smoe_cli.model.model import SymbioticModel
from tests.eval.folders import build
from tests.eval.tiny import byte_tokenizer, tiny_qwen2_moe
from tests.families.tiny import MULTIMODAL_FAMILIES, write_checkpoint
from tests.helpers import tiny
from tests.model.seeing import built, picture, seeing

REQUESTS = [((5, 6, 7, 90, 91, 92, 100), (8,)), ((9, 10), (8, 9)), ((5, 6, 17, 90, 81, 92, 100, 44, 33), (8, 77))]
WIDE: dict[str, dict[str, Any]] = {
    "qwen2_moe": {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24},
    "deepseek_v3": {"moe_intermediate_size": 16},
    "ernie4_5_vl_moe": {"moe_intermediate_size": [16, 8]},
    "qwen3_5_moe": {"moe_intermediate_size": 16},
}
"""Expert widths of which half precision has kernels: whole multiples of 16 bytes."""

LEVELS = {"bfloat16": 4.0, "float16": 0.5}
"""Of 255 grey levels: how far a drawing may be from the one in float32."""


@pytest.mark.parametrize("dtype", LEVELS)
@pytest.mark.parametrize("family", WIDE)
def test_in_half_precision_ours_is_the_plain_model_too(family: str, dtype: str, tmp_path: Path) -> None:
    """Bit for bit, as in float32; and it answers and draws, with its own eyes and with fresh ones."""
    folder = write_checkpoint(family, tmp_path / family, **WIDE[family])
    model, _ = built(seeing(folder, family))
    plain = open_to_measure(folder, dtype)
    ours = OpenModel(model.eval(), plain.tokenizer)
    exact = ours.drawer("kid").draw(["a", "b"], 0)
    prepare(model, dtype)
    assert ours.scorer(2).log_likelihoods(REQUESTS) == plain.scorer(2).log_likelihoods(REQUESTS)
    assert len(ours.reader("ocrbench").answer([picture(0), picture(1)], ["what?", "x"], 4)) == 2
    drawn = ours.drawer("kid").draw(["a", "b"], 0)
    difference = np.stack([np.asarray(image, float) for image in exact]) - np.stack([np.asarray(image) for image in drawn])
    assert 0 < np.abs(difference).mean() < LEVELS[dtype]
    assert (model.vision is None) == (family in MULTIMODAL_FAMILIES)


def test_kinds(tmp_path: Path) -> None:
    ours, plain = OpenModel(*build(tiny())), OpenModel(tiny_qwen2_moe(), byte_tokenizer())
    assert isinstance(ours.model, SymbioticModel)
    assert (ours.kind, plain.kind) == ("symbiotic", "causal-lm")
    assert ours.causal_lm is ours.model.backbone
    assert plain.causal_lm is plain.model
    assert (ours.recipe, plain.recipe) == (tiny(), None)
    assert plain.circumstances(3) == {"batch_size": 3, "device": "cpu", "attention": "sdpa"}
    assert ours.circumstances(3).keys() == {"batch_size", "device", "attention", "experts"}
    assert ours.reader("ocrbench").preprocessing["mode"] == "RGB"


def test_what_cannot_be_asked() -> None:
    plain = OpenModel(tiny_qwen2_moe(), byte_tokenizer())
    with pytest.raises(UserError, match="task `ocrbench` shows images, which a plain language model does not see"):
        plain.reader("ocrbench")
    with pytest.raises(UserError, match="task `kid` asks for drawings, which a plain model of transformers does not make"):
        plain.drawer("kid")
    why = UserError("no processor here")
    with pytest.raises(UserError, match="no processor here"):
        OpenModel(tiny_qwen2_moe(), byte_tokenizer(), why).reader("ocrbench")

"""The attention rule against a reference that spells it out token by token."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoe_cli.model.mask import Layout, dense


def reference(document: list[int], image: list[int], noisy: list[bool]) -> list[list[bool]]:
    n = len(document)
    table = []
    for q in range(n):
        row = []
        for k in range(n):
            same_image = image[q] != -1 and image[q] == image[k]
            visible = document[q] == document[k] and (k <= q or same_image)
            if noisy[k] and not same_image:
                visible = False
            row.append(visible)
        table.append(row)
    return table


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[int], list[int], list[bool]]:
    """Documents of text, clean images and noisy images, then padding."""
    document: list[int] = []
    image: list[int] = []
    noisy: list[bool] = []
    pictures = 0
    for d in range(draw(st.integers(1, 3))):
        for kind in draw(st.lists(st.sampled_from(["text", "clean", "noisy"]), min_size=1, max_size=4)):
            n = draw(st.integers(1, 3))
            document += [d] * n
            image += [-1 if kind == "text" else pictures] * n
            noisy += [kind == "noisy"] * n
            pictures += kind != "text"
    pad = draw(st.integers(0, 3))
    return document + [-1] * pad, image + [-1] * pad, noisy + [False] * pad


@given(rows())
@settings(max_examples=150, deadline=None)
def test_dense_mask_equals_the_rule_spelled_out(row: tuple[list[int], list[int], list[bool]]) -> None:
    document, image, noisy = row
    layout = Layout(torch.tensor([document]), torch.tensor([image]), torch.tensor([noisy]))
    assert dense(layout)[0, 0].tolist() == reference(document, image, noisy)
    assert dense(layout).any(-1).all(), "a row without any visible token would become NaN in softmax"
    assert torch.equal(dense(layout, 1), dense(layout)[:, :, -1:])

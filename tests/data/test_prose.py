from __future__ import annotations

from smoe_cli.data.prose import _passages, passages


def test_the_splits_share_no_paragraph_and_lie_in_the_whole() -> None:
    whole, train, heldout = passages(), passages("train"), passages("heldout")
    order = {text: index for index, text in enumerate(whole)}
    for part in (train, heldout):
        assert [order[text] for text in part] == sorted(order[text] for text in part)
    paragraphs = _passages()
    assert not {p for text in train for p in paragraphs[text]} & {p for text in heldout for p in paragraphs[text]}
    assert 0.05 < len(heldout) / len(whole) < 0.15
    assert len(train) + len(heldout) > 0.95 * len(whole)


def test_a_passage_is_its_paragraphs() -> None:
    assert all(text == " ".join(parts) for text, parts in _passages().items())
    assert min(map(len, passages())) >= 150

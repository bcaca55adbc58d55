"""OCRBench's rules, case by case, and against the benchmark's own procedure written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.eval.ocr.scoring import (
    DATASETS,
    RENDERED,
    TYPES,
    group_of,
    is_correct,
    is_exact,
    name_of,
    normalise,
    set_warnings,
)


@pytest.mark.parametrize(
    ("prediction", "answers", "dataset", "expected"),
    [
        ("CENTRE", ["centre"], "IIIT5K", True),  # case does not count
        ("The word is 'centre'.", ["centre"], "IIIT5K", True),  # a sentence around it does not harm
        ("center", ["centre"], "IIIT5K", False),
        ("cent re", ["centre"], "IIIT5K", False),  # spaces inside do count
        ("new\nyork", ["New York"], "docVQA", True),  # a line break is a space
        ("new york", ["new\nyork"], "docVQA", True),
        ("  42  ", ["42\n"], "docVQA", True),  # space around both is nothing
        ("it is 420", ["42"], "docVQA", True),  # substring, not word
        ("4", ["42"], "docVQA", False),
        ("second", ["first", "second"], "docVQA", True),  # any of several
        ("", ["x"], "docVQA", False),
        ("", [""], "docVQA", True),  # the empty answer is in everything, as in the original
        ("anything", ["  "], "docVQA", True),
        ("new  york", ["new york"], "docVQA", False),  # inner spaces are not squeezed
        (r"\frac { A } { b }", [r"\frac{A}{b}"], "HME100k", True),  # formulas: spaces do not count,
        (r"\frac{a}{b}", [r"\frac{A}{b}"], "HME100k", False),  # case does
        ("x\n+ y", ["x+y"], "HME100k", True),
        ("x\t+y", ["x+y"], "HME100k", False),  # only blanks and line breaks are removed
        ("x + y", ["x+y"], "hme100k", False),  # the name is compared as it is
        ("ＡＢＣ", ["abc"], "ReCTS", False),  # full-width letters are not folded: the original does not
    ],
)
def test_rule(prediction: str, answers: list[str], dataset: str, expected: bool) -> None:
    assert is_correct(prediction, answers, dataset) is expected


def original(predict: str, answers: list[str], dataset: str) -> bool:
    """The benchmark's own loop, which normalises the prediction again for every answer."""
    result = False
    for answer in answers:
        if dataset == "HME100k":
            answer = answer.strip().replace("\n", " ").replace(" ", "")
            predict = predict.strip().replace("\n", " ").replace(" ", "")
        else:
            answer = answer.lower().strip().replace("\n", " ")
            predict = predict.lower().strip().replace("\n", " ")
        if answer in predict:
            result = True
    return result


def lmms_eval(predict: str, answers: list[str], dataset: str) -> bool:
    """The procedure of lmms-eval 0.7.3."""

    def fold(text: str) -> str:
        folded = []
        for char in text:
            codepoint = ord(char)
            if 0xFF01 <= codepoint <= 0xFF5E:
                folded.append(chr(codepoint - 0xFEE0))
            elif codepoint == 0x3000:
                folded.append(" ")
            else:
                folded.append(char)
        return "".join(folded)

    score = False
    predict = predict.strip()
    for answer in answers:
        if dataset == "HME100k":
            if answer.strip().replace("\n", " ").replace(" ", "") in predict.strip().replace("\n", " ").replace(" ", ""):
                score = True
        elif fold(answer).lower().strip().replace("\n", " ") in fold(predict).lower().strip().replace("\n", " "):
            score = True
    return score


FULLWIDTH = "".join(map(chr, [0x3000, *range(0xFF00, 0xFF61)]))
"""All that is folded, and its neighbours, which are not."""

texts = st.text(alphabet="aAbİß \n\t\u3000x{}ａＡｂ！～｛\uff00｟", max_size=6)
datasets = st.sampled_from(["HME100k", "docVQA"])


@given(texts, st.lists(texts, min_size=1, max_size=3), datasets)
def test_equals_the_original_procedure_and_with_folding_that_of_lmms_eval(
    prediction: str, answers: list[str], dataset: str
) -> None:
    assert is_correct(prediction, answers, dataset) == original(prediction, answers, dataset)
    assert is_correct(prediction, answers, dataset, fold_fullwidth=True) == lmms_eval(prediction, answers, dataset)


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from(FULLWIDTH)), datasets)
def test_nothing_is_folded_by_default(text: str, dataset: str) -> None:
    """Every fullwidth character but the space, which is white space at the ends, is there afterwards, in order."""

    def kept(value: str) -> str:
        return "".join(char for char in value if char in FULLWIDTH[1:])

    folded_nowhere = kept(normalise(text, dataset))
    assert folded_nowhere == kept(text if dataset == "HME100k" else text.lower())
    assert normalise(text, dataset) == normalise(text, dataset, fold_fullwidth=False)


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from(FULLWIDTH)))
def test_formulas_are_never_folded(text: str) -> None:
    assert normalise(text, "HME100k", fold_fullwidth=True) == normalise(text, "HME100k")


def test_what_is_folded() -> None:
    folded = normalise(f"x{FULLWIDTH}x", "docVQA", fold_fullwidth=True)
    printable = "".join(map(chr, range(0x21, 0x7F)))
    assert folded == f"x \uff00{printable.lower()}｟｠x"
    assert is_correct("ＡＢＣ　１２", ["abc 12"], "ReCTS", fold_fullwidth=True)
    assert not is_correct("ＡＢＣ　１２", ["abc 12"], "ReCTS")
    assert is_exact("ＡＢＣ", ["abc"], "ReCTS", fold_fullwidth=True)
    assert not is_exact("ＡＢＣ", ["abc"], "ReCTS")


def test_exact_is_equality_after_the_same_normalisation() -> None:
    assert is_exact(" FORTY\n", ["forty"], "docVQA")
    assert not is_exact("forty two", ["forty"], "docVQA")


def test_groups_add_up_to_the_published_counts() -> None:
    groups: dict[str, int] = {}
    for group, count in TYPES.values():
        groups[group] = groups.get(group, 0) + count
    assert groups == {
        "Text Recognition": 300,
        "Scene Text-centric VQA": 200,
        "Doc-oriented VQA": 200,
        "Key Information Extraction": 200,
        "Handwritten Mathematical Expression Recognition": 100,
    }
    assert len(DATASETS) == 29 + 1  # SemanticText is named in the original's script although no question has it
    assert group_of("Digit String Recognition") == "Text Recognition"
    assert group_of("A type of my own") == "A type of my own"


FULL = [("svt", name) for name, (_, count) in TYPES.items() for _ in range(count)]


def test_only_the_full_set_passes_without_a_warning() -> None:
    assert (len(FULL), name_of(FULL), set_warnings(FULL)) == (1000, "ocrbench", [])
    assert name_of(FULL[1:]) == "ocrbench"
    assert set_warnings(FULL[1:]) == ["not OCRBench's full set: 999 of 1000 questions (Regular Text Recognition 49 of 50)"]
    swapped = [("svt", "Doc-oriented VQA"), *FULL[1:]]  # 1000 all the same
    assert set_warnings(swapped) == [
        "not OCRBench's full set: 1000 of 1000 questions (Regular Text Recognition 49 of 50, Doc-oriented VQA 201 of 200)"
    ]


@pytest.mark.parametrize(
    ("kind", "name", "warnings"),
    [
        ((RENDERED, "Digit String Recognition"), "rendered-ocr", []),
        (("mine", "Doc-oriented VQA"), "custom-ocr", ["not OCRBench's own questions: dataset `mine`"]),
        (("svt", "mine"), "custom-ocr", ["not OCRBench's own questions: question type `mine`"]),
    ],
)
def test_only_ocrbench_is_called_ocrbench(kind: tuple[str, str], name: str, warnings: list[str]) -> None:
    assert (name_of([kind]), set_warnings([kind])) == (name, warnings)
    mixed = [*FULL, kind]
    assert name_of(mixed) == "custom-ocr"
    assert set_warnings(mixed)[0].startswith("not OCRBench's own questions: ")

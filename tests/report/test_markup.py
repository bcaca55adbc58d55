"""Text is escaped unless it is HTML already."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from smoe_cli.report.markup import Html, el, join, table, text
from smoe_cli.report.page import embedded


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.words += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


printable = st.text(st.characters(exclude_categories=("Cs", "Cc")))


@given(printable)
def test_any_text_survives_as_text_and_as_attribute(value: str) -> None:
    reader = read(el("p", value, title=value))
    assert reader.tags == ["p"]
    assert reader.words == value
    assert reader.attributes == [("title", value)]


def test_html_is_not_escaped_twice() -> None:
    inner = el("b", "a < b")
    assert inner == "<b>a &lt; b</b>"
    assert el("p", inner, " & ", None, 3) == "<p><b>a &lt; b</b> &amp; 3</p>"
    assert isinstance(join([inner, "<"]), Html)
    assert text(inner) is inner


def test_attributes() -> None:
    assert el("input", type="range", hidden=True, disabled=False, data_x=None) == '<input type="range" hidden>'
    assert el("label", "x", for_="a", class_="b c", aria_label="d") == '<label for="a" class="b c" aria-label="d">x</label>'


def test_table_scrolls_inside_a_named_region_and_heads_its_rows() -> None:
    html = table("sizes", ["role", "number"], [["<shared>", "12"]], numeric=(1,))
    assert 'class="scroll" tabindex="0" role="region" aria-label="Table: sizes"' in html
    assert '<th scope="row">&lt;shared&gt;</th><td class="n">12</td>' in html


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_embedded_json_cannot_end_its_element(value: object) -> None:
    import json

    written = embedded(value)
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == value

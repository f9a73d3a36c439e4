"""Foreign text in generated markdown, read back by the parser that the book uses."""

import pytest
from hostile import HOSTILE
from markdown_it import MarkdownIt

from panelbook.publish.markdown import code, doc_link, escape, table

SHORT = [
    " ".join(one.text[:200].split())
    for one in HOSTILE
    if one.text[:200].strip() and one.text[:200].isprintable()
]


def read(source):
    return MarkdownIt("commonmark").enable("table").parse(source)


@pytest.mark.parametrize("text", [*SHORT, "a|b", "`", "``a`", "$x$", "[a](b)", "**a**"])
def test_code_is_read_back_as_it_was(text):
    (inline,) = [token for token in read(f"x {code(text)} y") if token.type == "inline"]
    assert [child.content for child in inline.children if child.type == "code_inline"] == [text]


@pytest.mark.parametrize("text", ["a|b", "<img src=x>", "**a** _b_", "[a](http://b)", "`c`", "a\\b", "# x"])
def test_a_cell_shows_the_text_and_nothing_but_the_text(text):
    tokens = [
        token for token in read(table(["head", "next"], [[escape(text), "last"]])) if token.type == "inline"
    ]
    cells = ["".join(child.content for child in token.children) for token in tokens]
    assert cells == ["head", "next", text, "last"]
    assert {child.type for token in tokens for child in token.children} <= {"text", "text_special"}


def test_code_with_a_bar_stays_in_its_cell():
    tokens = [token for token in read(table(["a", "b"], [[code("p|q"), "x"]])) if token.type == "inline"]
    assert [child.content for token in tokens for child in token.children] == ["a", "b", "p|q", "x"]


def test_a_link_cannot_be_ended_by_its_text():
    assert doc_link("a`b <c>", "/chapters/x") == "{doc}`ab c </chapters/x>`"
